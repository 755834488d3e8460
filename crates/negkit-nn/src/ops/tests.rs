//! Kernels against compositions of candle's operations.
#![allow(clippy::unwrap_used)]
use candle_core::{D, DType, Device, Result, Shape, Tensor, Var};
use negkit_kernels::training::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Normal};

use crate::ops::{self, composed};
use crate::{Activation, AttentionBudget, Products, attention};

fn values_of(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn assert_near(found: &Tensor, expected: &Tensor, tolerance: f32) {
    assert_eq!(found.dims(), expected.dims());
    for (i, (f, e)) in values_of(found).iter().zip(values_of(expected)).enumerate() {
        let bound = tolerance * (1. + e.abs());
        assert!(
            (f - e).abs() <= bound,
            "value {i} of {:?}: found {f}, expected {e}",
            found.dims()
        );
    }
}

/// The same values in the same place of the same test.
fn normal(shape: impl Into<Shape>) -> Tensor {
    thread_local! {
        static CALLS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    let shape = shape.into();
    let call = CALLS.replace(CALLS.get() + 1);
    let mut rng = ChaCha8Rng::seed_from_u64(call);
    let normal = Normal::new(0.3, 2.).unwrap();
    let values: Vec<f32> = (0..shape.elem_count())
        .map(|_| normal.sample(&mut rng))
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

#[test]
fn activations_are_their_compositions() {
    for length in [1, 15, 16, 17, 1000, TASK + 3, 5 * TASK + 1] {
        let x = normal(length);
        let silu = elementwise::<Silu>(&x).unwrap();
        assert_near(&silu, &x.silu().unwrap(), 1e-6);
        let expected = composed::quick_gelu(&x).unwrap();
        assert_near(&elementwise::<QuickGelu>(&x).unwrap(), &expected, 1e-6);
    }
    for shape in [(1, 2), (3, 34), (7, 2 * 333), (2, 4 * TASK)] {
        let x = normal(shape);
        let expected = composed::geglu(&x).unwrap();
        // `1 + erf` is rounded to 6e-8, and values of up to 8 multiply that.
        assert_near(&geglu(&x).unwrap(), &expected, 5e-6);
    }
}

#[test]
fn activations_keep_extremes_and_nan() {
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, -0.];
    let x = Tensor::new(&x, &Device::Cpu).unwrap();
    for y in [
        elementwise::<Silu>(&x).unwrap(),
        elementwise::<QuickGelu>(&x).unwrap(),
        elementwise::<GeluErf>(&x).unwrap(),
    ] {
        let y = values_of(&y);
        assert!(y[0].is_nan());
        assert_eq!((y[1], y[5]), (f32::INFINITY, 0.));
        assert!((y[3] / 1e30 - 1.).abs() < 1e-6, "{y:?}");
        assert!(y[4].abs() < 1e-6, "{y:?}");
    }
}

#[test]
fn softmax_is_its_composition() {
    for shape in [(1, 1), (5, 3), (3, 16), (13, 77), (2, 1025), (3, TASK + 5)] {
        let x = (normal(shape) * 4.).unwrap();
        let expected = candle_nn::ops::softmax(&x, D::Minus1).unwrap();
        assert_near(&softmax(&x).unwrap(), &expected, 1e-6);
    }
    let x = Tensor::new(&[[0f32, f32::NEG_INFINITY], [1e4, 1e4]], &Device::Cpu).unwrap();
    assert_eq!(values_of(&softmax(&x).unwrap()), [1., 0., 0.5, 0.5]);
    let x = Tensor::new(&[[0f32, f32::NAN, 1.]], &Device::Cpu).unwrap();
    assert!(values_of(&softmax(&x).unwrap()).iter().all(|v| v.is_nan()));
}

#[test]
fn norms_are_their_compositions() {
    for (rows, width) in [(1, 1), (3, 17), (50, 768), (7, 5000)] {
        // Far from zero, where a variance from sums of squares would lose its digits.
        let x = (normal((rows, width)) + 100.).unwrap();
        let (weight, bias) = (normal(width), normal(width));
        let expected = candle_nn::ops::layer_norm_slow(
            &x.to_dtype(DType::F64).unwrap(),
            &weight.to_dtype(DType::F64).unwrap(),
            &bias.to_dtype(DType::F64).unwrap(),
            1e-5,
        );
        let expected = expected.unwrap().to_dtype(DType::F32).unwrap();
        let found = layer_norm(&x, &weight, &bias, 1e-5).unwrap();
        assert_near(&found, &expected, 1e-4);
    }
    for (shape, groups) in [
        ([1, 1, 1, 1], 1),
        ([2, 6, 5, 7], 3),
        ([1, 32, 9, 9], 32),
        ([3, 10, 33, 31], 2),
    ] {
        let x = normal(&shape);
        let (weight, bias) = (normal(shape[1]), normal(shape[1]));
        let expected = composed::group_norm(&x, groups, &weight, &bias, 1e-6).unwrap();
        let found = group_norm(&x, groups, &weight, &bias, 1e-6).unwrap();
        assert_near(&found, &expected, 5e-6);
    }
}

#[test]
fn bias_is_added_along_its_dimension() {
    for (outer, channels, inner) in [(1, 1, 1), (3, 7, 1), (2, 5, 13), (300, 77, 1)] {
        let y = normal((outer, channels, inner));
        let bias = normal(channels);
        let expected = y
            .broadcast_add(&bias.reshape((channels, 1)).unwrap())
            .unwrap();
        add_bias(&y, &bias, inner).unwrap();
        assert_near(&y, &expected, 0.);
    }
}

#[test]
fn misfitting_parameters_are_errors() {
    let x = normal((2, 6, 3, 3));
    let (six, five) = (normal(6), normal(5));
    assert!(group_norm(&x, 3, &five, &six, 1e-5).is_err());
    assert!(group_norm(&x, 3, &six, &five, 1e-5).is_err());
    assert!(group_norm(&x, 4, &six, &six, 1e-5).is_err());
    assert!(group_norm(&x, 0, &six, &six, 1e-5).is_err());
    assert!(layer_norm(&x, &six, &six, 1e-5).is_err());
    assert!(add_bias(&x, &five, 9).is_err());
}

/// Relative L2 error of f32 kernels.
const EXACT: f64 = 2e-6;

fn relative_l2(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let wide = |t: &Tensor| -> Vec<f64> {
        let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
        t.to_vec1().unwrap()
    };
    let (found, expected) = (wide(found), wide(expected));
    let pairs = found.iter().zip(&expected);
    let difference: f64 = pairs.map(|(f, e)| (f - e).powi(2)).sum();
    let norm: f64 = expected.iter().map(|e| e * e).sum();
    if difference == 0. {
        return 0.;
    }
    (difference / norm).sqrt()
}

/// Result and gradients of `f` where the inputs in `tracked` are variables.
fn run(
    inputs: &[Tensor],
    tracked: &[usize],
    direction: Option<&Tensor>,
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> (Tensor, Vec<Option<Tensor>>) {
    let inputs: Vec<Tensor> = inputs
        .iter()
        .enumerate()
        .map(|(i, t)| match tracked.contains(&i) {
            true => Var::from_tensor(t).unwrap().into_inner(),
            false => t.clone(),
        })
        .collect();
    let y = f(&inputs).unwrap();
    let Some(direction) = direction else {
        return (y, Vec::new());
    };
    let direction = direction.to_dtype(y.dtype()).unwrap();
    let loss = (&y * direction).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    let gradients = inputs.iter().map(|t| gradients.get(t).cloned()).collect();
    (y, gradients)
}

/// Checks result and gradients of `f`, whose kernels take f32, against what its composition gives in
/// f64, for every choice of frozen inputs.
fn check(name: &str, shapes: &[&[usize]], tolerance: f64, f: &dyn Fn(&[Tensor]) -> Result<Tensor>) {
    check_with(name, shapes, tolerance, true, f);
}

/// [`check`], where a frozen input may get a gradient that nobody asks for.
fn check_with(
    name: &str,
    shapes: &[&[usize]],
    tolerance: f64,
    none_for_frozen: bool,
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) {
    let inputs: Vec<Tensor> = shapes.iter().map(|shape| normal(*shape)).collect();
    let wide: Vec<Tensor> = inputs
        .iter()
        .map(|t| t.to_dtype(DType::F64).unwrap())
        .collect();
    let all: Vec<usize> = (0..inputs.len()).collect();
    let direction = normal(f(&inputs).unwrap().dims());
    let (y, expected) = run(&wide, &all, Some(&direction), f);
    for choice in 1..1 << inputs.len() {
        let tracked: Vec<usize> = all
            .iter()
            .copied()
            .filter(|i| choice >> i & 1 == 1)
            .collect();
        let (found_y, found) = run(&inputs, &tracked, Some(&direction), f);
        let error = relative_l2(&found_y, &y);
        assert!(error <= tolerance, "{name}: the result is off by {error:e}");
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            if none_for_frozen || tracked.contains(&i) {
                assert_eq!(found.is_some(), tracked.contains(&i), "{name}: input {i}");
            }
            let (Some(found), Some(expected)) = (found, expected) else {
                continue;
            };
            let error = relative_l2(found, expected);
            assert!(
                error <= tolerance,
                "{name} {shapes:?}: gradient of input {i} with {tracked:?} tracked is off by {error:e}"
            );
            let again = run(&inputs, &tracked, Some(&direction), f).1[i].clone();
            assert_eq!(
                values_of(found),
                values_of(&again.unwrap()),
                "{name}: not reproducible"
            );
        }
    }
}

#[test]
fn gradients_of_products_are_those_of_compositions() {
    for [rows, input, output] in [[1, 1, 1], [3, 5, 7], [70, 33, 65], [129, 64, 96]] {
        let shapes: [&[usize]; 3] = [&[rows, input], &[output, input], &[output]];
        check("linear", &shapes, EXACT, &|t| {
            ops::linear(&t[0], &t[1], Some(&t[2]))
        });
        let x: &[usize] = &[2, input, rows];
        check(
            "linear of a transposed input",
            &[x, shapes[1]],
            EXACT,
            &|t| ops::linear(&t[0].transpose(1, 2)?, &t[1], None),
        );
        let (a, b): (&[usize], &[usize]) = (&[2, 3, rows, input], &[2, 3, input, output]);
        check("matmul", &[a, b], EXACT, &|t| ops::matmul(&t[0], &t[1]));
        let b: &[usize] = &[2, 3, output, input];
        check("matmul of a transposed matrix", &[a, b], EXACT, &|t| {
            ops::matmul(&t[0], &t[1].t()?)
        });
        let a: &[usize] = &[rows, input];
        check("matmul of two", &[a, &[input, output]], EXACT, &|t| {
            ops::matmul(&t[0], &t[1])
        });
    }
}

#[test]
fn gradients_of_convolutions_are_those_of_compositions() {
    for (channels, kernel, stride, padding, size) in [
        ([3, 4], [1, 1], 1, 0, [5, 4]),
        ([40, 70], [1, 1], 1, 0, [8, 8]),
        ([3, 4], [3, 3], 1, 1, [5, 4]),
        ([33, 17], [3, 3], 1, 1, [8, 8]),
        ([5, 6], [3, 3], 2, 1, [5, 6]),
        ([3, 4], [3, 3], 2, 0, [8, 7]),
        ([3, 4], [2, 2], 2, 0, [4, 6]),
        ([2, 3], [8, 8], 8, 0, [16, 24]),
        ([2, 3], [5, 5], 3, 2, [9, 11]),
        ([1, 1], [3, 3], 1, 1, [1, 1]),
    ] {
        let x: &[usize] = &[3, channels[0], size[0], size[1]];
        let weight: &[usize] = &[channels[1], channels[0], kernel[0], kernel[1]];
        let bias: &[usize] = &[channels[1]];
        check("conv2d", &[x, weight, bias], EXACT, &|t| {
            ops::conv2d(&t[0], &t[1], Some(&t[2]), stride, padding)
        });
        check("conv2d without bias", &[x, weight], EXACT, &|t| {
            ops::conv2d(&t[0], &t[1], None, stride, padding)
        });
    }
}

/// Relative L2 error of bf16 products.
const ROUNDED: f64 = 6e-3;

#[test]
fn gradients_in_bf16_are_near() {
    let products = Products::Bf16;
    for (channels, kernel, stride, padding, size) in [
        ([3, 4], [1, 1], 1, 0, [5, 4]),
        ([33, 17], [3, 3], 1, 1, [8, 8]),
        ([64, 96], [3, 3], 1, 1, [4, 4]),
        ([20, 36], [3, 3], 2, 1, [8, 6]),
        ([3, 4], [3, 3], 2, 0, [8, 7]),
        ([3, 40], [8, 8], 8, 0, [16, 24]),
    ] {
        let x: &[usize] = &[3, channels[0], size[0], size[1]];
        let weight: &[usize] = &[channels[1], channels[0], kernel[0], kernel[1]];
        check("conv2d", &[x, weight, &[channels[1]]], ROUNDED, &|t| {
            ops::conv2d_in(&t[0], &t[1], Some(&t[2]), stride, padding, products)
        });
    }
    for [rows, input, output] in [[3, 5, 7], [70, 33, 65], [129, 64, 96]] {
        let shapes: [&[usize]; 3] = [&[rows, input], &[output, input], &[output]];
        check("linear", &shapes, ROUNDED, &|t| {
            ops::linear_in(&t[0], &t[1], Some(&t[2]), products)
        });
        let (a, b): (&[usize], &[usize]) = (&[2, 3, rows, input], &[2, 3, output, input]);
        check("matmul of a transposed matrix", &[a, b], ROUNDED, &|t| {
            ops::matmul_in(&t[0], &t[1].t()?, products)
        });
    }
    let (q, k): (&[usize], &[usize]) = (&[2, 65, 96], &[2, 33, 96]);
    // Scores are sums of 32 products, and the softmax's slope makes their errors larger.
    check(
        "attention",
        &[q, k, k],
        5. * ROUNDED,
        &|t| match t[0].dtype() {
            DType::F32 => multi_head_attention(
                [&t[0], &t[1], &t[2]],
                3,
                AttentionMask::None,
                0.05,
                products,
            ),
            _ => composed_attention(t, 3, AttentionMask::None, 0.05),
        },
    );
}

#[test]
fn convolutions_that_cannot_be_are_errors() {
    let x = Var::from_tensor(&normal((1, 2, 3, 3))).unwrap();
    for (weight, stride, padding) in [
        ([1, 3, 3, 3], 1, 1),
        ([1, 2, 4, 4], 1, 0),
        ([1, 2, 3, 3], 0, 1),
    ] {
        assert!(ops::conv2d(&x, &normal(&weight), None, stride, padding).is_err());
    }
    let weight = normal((1, 2, 3, 3));
    assert!(ops::conv2d(&x, &weight, Some(&normal(2)), 1, 1).is_err());
}

#[test]
fn gradients_of_norms_are_those_of_compositions() {
    for (rows, width) in [(1, 5), (3, 17), (300, 192), (5, 2000)] {
        check(
            "layer_norm",
            &[&[rows, width], &[width], &[width]],
            EXACT,
            &|t| ops::layer_norm(&t[0], &t[1], &t[2], 1e-5),
        );
    }
    for (shape, groups) in [([2, 6, 5, 7], 3), ([1, 32, 9, 9], 32), ([3, 10, 33, 31], 2)] {
        let channels: &[usize] = &[shape[1]];
        check(
            "group_norm",
            &[&shape, channels, channels],
            2. * EXACT,
            &|t| ops::group_norm(&t[0], groups, &t[1], &t[2], 1e-6),
        );
        check(
            "group_norm_silu",
            &[&shape, channels, channels],
            2. * EXACT,
            &|t| ops::group_norm_silu(&t[0], groups, &t[1], &t[2], 1e-6),
        );
    }
}

#[test]
fn an_activated_norm_is_the_activation_of_the_norm() {
    let (x, weight, bias) = (normal((2, 6, 5, 7)), normal(6), normal(6));
    let norm = ops::group_norm(&x, 3, &weight, &bias, 1e-5).unwrap();
    let both = ops::group_norm_silu(&x, 3, &weight, &bias, 1e-5).unwrap();
    assert_eq!(values_of(&ops::silu(&norm).unwrap()), values_of(&both));
}

#[test]
fn gradients_of_functions_are_those_of_compositions() {
    // The constants in candle's gradient of GELU have six digits.
    const GELU: f64 = 5e-6;
    for length in [1, 17, TASK + 5] {
        let shape: &[usize] = &[2, length];
        check("silu", &[shape], EXACT, &|t| ops::silu(&t[0]));
        check("quick_gelu", &[shape], EXACT, &|t| ops::quick_gelu(&t[0]));
        check("gelu_erf", &[shape], GELU, &|t| ops::gelu_erf(&t[0]));
        check("relu", &[shape], EXACT, &|t| ops::relu(&t[0]));
        check("softmax", &[&[3, length + 1]], EXACT, &|t| {
            ops::softmax(&t[0])
        });
        // Of a single value nothing may be left but the rounding of `1 + erf`.
        check("geglu", &[&[20, 2 * length]], GELU, &|t| ops::geglu(&t[0]));
        check("silu of a transposed input", &[shape], EXACT, &|t| {
            ops::silu(&t[0].t()?)
        });
        check(
            "add_per_channel",
            &[&[2, 3, length], &[2, 3]],
            EXACT,
            &|t| ops::add_per_channel(&t[0], &t[1]),
        );
    }
}

/// Attention by the composition, in the layout of the kernel.
fn composed_attention(
    t: &[Tensor],
    heads: usize,
    mask: AttentionMask,
    scale: f64,
) -> Result<Tensor> {
    let split = |x: &Tensor| {
        let (batch, length, width) = x.dims3()?;
        x.reshape((batch, length, heads, width / heads))?
            .transpose(1, 2)
    };
    let (q, k, v) = (split(&t[0])?, split(&t[1])?, split(&t[2])?);
    let y = attention(&q, &k, &v, mask, scale, AttentionBudget::UNLIMITED)?;
    y.transpose(1, 2)?.reshape(t[0].dims())
}

#[test]
fn gradients_of_attention_are_those_of_its_composition() {
    for (queries, keys, heads, d, mask) in [
        (5, 5, 2, 3, AttentionMask::Causal),
        (5, 3, 1, 4, AttentionMask::None),
        (65, 65, 3, 32, AttentionMask::None),
        (33, 33, 2, 64, AttentionMask::Causal),
        (1, 77, 2, 8, AttentionMask::None),
    ] {
        let q: &[usize] = &[2, queries, heads * d];
        let k: &[usize] = &[2, keys, heads * d];
        check("attention", &[q, k, k], EXACT, &|t| match t[0].dtype() {
            DType::F32 => {
                let exact = Products::Exact;
                multi_head_attention([&t[0], &t[1], &t[2]], heads, mask, 0.3, exact)
            }
            _ => composed_attention(t, heads, mask, 0.3),
        });
    }
}

#[test]
fn gradients_of_feed_forward_networks_are_those_of_their_compositions() {
    let feed_forward = |t: &[Tensor], gating, products| {
        ops::feed_forward(&t[0], [&t[1], &t[3]], [&t[2], &t[4]], gating, products)
    };
    // Rounding turns the sign of a hidden value here and there, and its slope with it.
    for (products, tolerance) in [(Products::Exact, 5e-6), (Products::Bf16, 0.15)] {
        for (gating, inputs) in [
            (ops::Gating::Geglu, 2),
            (ops::Gating::Activation(Activation::QuickGelu), 1),
            (ops::Gating::Activation(Activation::Relu), 1),
        ] {
            // The last one has more rows than are handled at a time.
            for [rows, width, inner] in [[5, 3, 7], [70, 33, 40], [1100, 8, 600]] {
                let hidden = inputs * inner;
                let shapes: [&[usize]; 5] = [
                    &[rows, width],
                    &[hidden, width],
                    &[hidden],
                    &[width, inner],
                    &[width],
                ];
                // candle's gradient of a concatenation is for all parts.
                check_with("feed_forward", &shapes, tolerance, false, &|t| {
                    feed_forward(t, gating, products)
                });
            }
        }
    }
}
