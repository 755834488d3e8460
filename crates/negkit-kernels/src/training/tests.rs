//! The functions that the kernels approximate; the kernels themselves are tested in `negkit-nn`, against
//! compositions of candle's operations.
#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn exp_and_erf_are_those_of_f64() {
    // 17 significant steps a unit, so that no number is met exactly.
    for i in -87 * 17..88 * 17 {
        let x = i as f32 / 17.;
        let expected = f64::from(x).exp();
        let error = (f64::from(exp(x)) - expected).abs() / expected;
        assert!(error < 2.5e-7, "exp({x}): relative error {error:e}");
    }
    assert_eq!(exp(f32::NEG_INFINITY), 0.);
    assert_eq!(exp(-90.), 0.);
    assert!(exp(f32::NAN).is_nan() && erf(f32::NAN).is_nan());
    assert!(exp(f32::INFINITY) > 1e38);
    // erf(0.5), erf(1), erf(2) of Abramowitz and Stegun, table 7.1.
    for (x, expected) in [
        (0., 0.),
        (0.5, 0.520_499_9),
        (1., 0.842_700_8),
        (2., 0.995_322_3),
    ] {
        assert!((erf(x) - expected).abs() < 3e-7, "erf({x}) = {}", erf(x));
        assert!((erf(-x) + expected).abs() < 3e-7, "erf(-{x}) = {}", erf(-x));
    }
    let x = Tensor::arange_step(-6f32, 6., 1. / 512.3, &Device::Cpu).unwrap();
    let worst = (elementwise::<GeluErf>(&x).unwrap() - x.gelu_erf().unwrap())
        .unwrap()
        .abs()
        .unwrap()
        .max(0)
        .unwrap();
    assert!(worst.to_scalar::<f32>().unwrap() < 1e-6);
}
