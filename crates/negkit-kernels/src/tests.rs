//! The kernels for inference against the plainest code for the same, with every set of instructions
//! that the machine has.
#![allow(clippy::unwrap_used)]

use half::{bf16, f16};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

use crate::*;

/// So many, but fewer for Miri, which computes ten thousand times slower.
const fn up_to(most: usize) -> usize {
    if cfg!(miri) && most > 34 { 34 } else { most }
}

/// Pixels along a side, at most.
const SIDE: usize = if cfg!(miri) { 3 } else { 14 };

fn normal(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count)
        .map(|_| StandardNormal.sample(&mut rng))
        .collect()
}

fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|x| bf16::from_f32(*x).to_f32()).collect()
}

fn to_bf16(values: &[f32]) -> Vec<bf16> {
    values.iter().copied().map(bf16::from_f32).collect()
}

/// Largest difference, relative to the largest value expected.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-30, |a: f64, b| a.max(b.abs()));
    let pairs = found.iter().zip(expected);
    let differences = pairs.map(|(f, e)| {
        if f64::from(*f).is_nan() && e.is_nan() {
            0.
        } else {
            (f64::from(*f) - e).abs()
        }
    });
    differences.fold(0., |a, b| if b > a || b.is_nan() { b } else { a }) / largest
}

/// `rows @ weight.T` in f64.
fn product(rows: &[f32], weight: &[f32], steps: usize) -> Vec<f64> {
    let columns = weight.chunks(steps);
    rows.chunks(steps)
        .flat_map(|row| {
            columns.clone().map(|column| {
                let terms = row.iter().zip(column);
                terms.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            })
        })
        .collect()
}

fn activate(function: Function, x: f64) -> f64 {
    // Abramowitz and Stegun 7.1.6: all terms have the sign of x, so that nothing cancels.
    let erf = |x: f64| {
        let mut term = x * (-x * x).exp();
        let mut sum = term;
        for n in 1..300 {
            term *= 2. * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    };
    match function {
        Function::Identity => x,
        Function::Silu => x / (1. + (-x).exp()),
        Function::QuickGelu => x / (1. + (-1.702 * x).exp()),
        Function::GeluErf | Function::Geglu => 0.5 * x * (1. + erf(x / 2f64.sqrt())),
        Function::Relu => x.max(0.),
    }
}

/// All instruction sets of this machine with both precisions, and the error that each is allowed.
///
/// AMX is among them on every x86-64 Linux: where the processor lacks it, its instructions are emulated.
fn ways() -> Vec<(Isa, Precision, f64)> {
    #[cfg_attr(miri, allow(unused_mut))]
    let mut ways: Vec<_> = Isa::available()
        .flat_map(|isa| [(isa, Precision::F32, 3e-6), (isa, Precision::Bf16, 3e-6)])
        .collect();
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
    if Isa::best() < Isa::AmxBf16 {
        crate::multiply::emulated::install();
        ways.push((Isa::AmxBf16, Precision::Bf16, 3e-6));
    }
    ways
}

/// Values that are bf16 already, where the precision is: the reference is then exact.
fn as_packed(values: Vec<f32>, precision: Precision) -> Vec<f32> {
    match precision {
        Precision::F32 => values,
        Precision::Bf16 => rounded(&values),
    }
}

/// A convolution of random pictures.
struct ConvolutionCase {
    x: Vec<f32>,
    /// `[columns, channels, taps]`
    weight: Vec<f32>,
    sizes: [usize; 3],
    sliding: Sliding,
}

impl ConvolutionCase {
    /// Of so many pictures, channels and columns.
    fn new(sizes: [usize; 3], sliding: Sliding, precision: Precision, seed: u64) -> Self {
        let [n, channels, columns] = sizes;
        let [height, width] = sliding.picture;
        let taps = sliding.kernel[0] * sliding.kernel[1];
        Self {
            x: as_packed(normal(n * height * width * channels, seed), precision),
            weight: as_packed(normal(columns * channels * taps, seed ^ 1), precision),
            sizes,
            sliding,
        }
    }

    /// Pixel by pixel in f64.
    fn expected(&self) -> Vec<f64> {
        let [n, channels, columns] = self.sizes;
        let Sliding {
            picture,
            resized,
            kernel,
            stride,
            before,
            ..
        } = self.sliding;
        let taps = kernel[0] * kernel[1];
        let [height, width] = self.sliding.windows().unwrap();
        // The pixel of the picture that a tap sees, unless it lies in the border.
        let seen = |at: usize, along: usize| {
            let at = at.checked_sub(before).filter(|at| *at < resized[along])?;
            Some((at as f64 * (picture[along] as f64 / resized[along] as f64)) as usize)
        };
        let mut expected = Vec::new();
        for place in 0..n * height * width {
            let (i, y, x) = (
                place / width / height,
                place / width % height,
                place % width,
            );
            for column in 0..columns {
                let mut sum = 0f64;
                for tap in 0..taps {
                    let row = seen(y * stride + tap / kernel[1], 0);
                    let col = seen(x * stride + tap % kernel[1], 1);
                    let Some((row, col)) = row.zip(col) else {
                        continue;
                    };
                    let pixel = ((i * picture[0] + row) * picture[1] + col) * channels;
                    for channel in 0..channels {
                        let weight = self.weight[(column * channels + channel) * taps + tap];
                        sum += f64::from(self.x[pixel + channel]) * f64::from(weight);
                    }
                }
                expected.push(sum);
            }
        }
        expected
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 40 }, failure_persistence: None, ..Default::default() })]

    #[test]
    fn layers_are_products(
        rows in 1usize..up_to(70),
        columns in 1usize..up_to(100),
        steps in 1usize..up_to(600),
        function in prop::sample::select(vec![
            Function::Identity, Function::Silu, Function::QuickGelu, Function::GeluErf, Function::Relu,
        ]),
        seed: u64,
    ) {
        for (isa, precision, allowed) in ways() {
            let x = as_packed(normal(rows * steps, seed), precision);
            let weight = as_packed(normal(columns * steps, seed ^ 1), precision);
            // Sums stay where the functions are curved.
            let scale = 1. / (steps as f32).sqrt();
            let weight: Vec<f32> = weight.iter().map(|w| bf16::from_f32(w * scale).to_f32()).collect();
            let (bias, shift) = (normal(columns, seed ^ 2), normal(3 * columns, seed ^ 3));
            let residual = normal(rows * columns, seed ^ 4);
            let each = rows.div_ceil(3);
            let shift = &shift[..rows.div_ceil(each) * columns];
            let packed = Weights::pack(&weight, [columns, steps], Order::Plain, precision, isa).unwrap();
            let finish = Finish {
                bias: Some(&bias),
                shift: Some(shift),
                function,
                residual: Some(&residual),
            };
            let found = layer(&Matrix::new(&x, steps).unwrap(), &packed, finish).unwrap();
            let mut expected = product(&x, &weight, steps);
            for (i, y) in expected.iter_mut().enumerate() {
                let (row, column) = (i / columns, i % columns);
                let sum = *y + f64::from(bias[column]) + f64::from(shift[row / each * columns + column]);
                *y = activate(function, sum) + f64::from(residual[i]);
            }
            prop_assert!(error(&found, &expected) < allowed, "{isa} {precision:?}: {:e}", error(&found, &expected));
            prop_assert_eq!(packed.unpack(1, Order::Plain), weight);
        }
    }

    #[test]
    fn weights_of_any_stored_type_are_packed_as_what_they_say(
        columns in 1usize..up_to(100),
        inputs in 1usize..up_to(700),
        taps in prop::sample::select(vec![1usize, 4, 9]),
        gated: bool,
        seed: u64,
    ) {
        // All three types have these values.
        let rough = |value: f32| bf16::from_f32(f16::from_f32(value).to_f32()).to_f32();
        let weight: Vec<f32> = normal(columns * inputs * taps, seed).into_iter().map(rough).collect();
        let half: Vec<f16> = weight.iter().copied().map(f16::from_f32).collect();
        let brain = to_bf16(&weight);
        let order = if gated { Order::Gated } else { Order::Plain };
        let sizes = [columns, inputs, taps];
        for (isa, precision, _) in ways() {
            let packed = [
                Weights::pack_taps(&weight, sizes, order, precision, isa),
                Weights::pack_taps(&half, sizes, order, precision, isa),
                Weights::pack_taps(&brain, sizes, order, precision, isa),
            ];
            for packed in packed {
                prop_assert_eq!(packed.is_ok(), order.fits(columns));
                if let Ok(packed) = packed {
                    prop_assert_eq!(&packed.unpack(taps, order), &weight);
                }
            }
        }
    }

    #[test]
    fn kernels_of_any_stored_type_are_transformed_alike(
        columns in 32usize..up_to(100),
        channels in 32usize..up_to(700),
        seed: u64,
    ) {
        let half: Vec<f16> = normal(columns * channels * 9, seed).into_iter().map(f16::from_f32).collect();
        let weight: Vec<f32> = half.iter().map(|value| value.to_f32()).collect();
        let exact: Vec<f64> = weight.iter().map(|value| f64::from(*value)).collect();
        for (isa, precision, _) in ways() {
            let sizes = [columns, channels, 9];
            let of_f32 = Convolution::pack(&weight, sizes, Reach::Same3x3, precision, isa).unwrap();
            let of_f16 = Convolution::pack(&half, sizes, Reach::Same3x3, precision, isa).unwrap();
            prop_assert_eq!(of_f32.unpack(), of_f16.unpack());
            let allowed = if precision == Precision::F32 { 1e-6 } else { 2e-2 };
            prop_assert!(error(&of_f16.unpack(), &exact) < allowed, "{isa} {precision:?}");
        }
    }

    #[test]
    fn convolutions_are_sums_over_windows(
        n in 1usize..3,
        channels in 1usize..up_to(40),
        columns in 1usize..up_to(40),
        picture in [1usize..SIDE, 1usize..SIDE],
        grow in [1usize..4, 1usize..4],
        kernel in [1usize..4, 1usize..4],
        stride in 1usize..4,
        before in 0usize..3,
        after in 0usize..3,
        seed: u64,
    ) {
        let resized = [picture[0] * grow[0] - grow[0] / 2, picture[1] * grow[1] - grow[1] / 2];
        let resized = [resized[0].max(1), resized[1].max(1)];
        let sliding = Sliding { picture, resized, kernel, stride, before, after };
        for (isa, precision, allowed) in ways() {
            let case = ConvolutionCase::new([n, channels, columns], sliding, precision, seed);
            let taps = kernel[0] * kernel[1];
            let sizes = [columns, channels, taps];
            let packed = Convolution::pack(&case.weight, sizes, Reach::Any, precision, isa).unwrap();
            let Ok((found, size)) = convolve(&case.x, sliding, &packed, Finish::default()) else {
                prop_assert!(sliding.windows().is_none());
                continue;
            };
            prop_assert_eq!(Some(size), sliding.windows());
            prop_assert!(error(&found, &case.expected()) < allowed, "{isa} {precision:?}");
            prop_assert_eq!(packed.unpack(), case.weight);
        }
    }

    #[test]
    fn convolutions_by_tiles_are_the_same_sums(
        n in 1usize..3,
        channels in 32usize..up_to(80),
        columns in 32usize..up_to(80),
        picture in [1usize..SIDE, 1usize..SIDE],
        grow in [1usize..3, 1usize..3],
        reach in prop::sample::select(vec![Reach::Same3x3, Reach::RoomySame3x3]),
        seed: u64,
    ) {
        let resized = [picture[0] * grow[0] - grow[0] / 2, picture[1] * grow[1] - grow[1] / 2];
        let resized = [resized[0].max(1), resized[1].max(1)];
        let sliding = Sliding { picture, resized, kernel: [3, 3], stride: 1, before: 1, after: 1 };
        let pixels = n * resized[0] * resized[1];
        let (bias, shift) = (normal(columns, seed ^ 2), normal(n * columns, seed ^ 3));
        let residual = normal(pixels * columns, seed ^ 4);
        for (isa, precision, _) in ways() {
            let case = ConvolutionCase::new([n, channels, columns], sliding, precision, seed);
            let sizes = [columns, channels, 9];
            let packed = Convolution::pack(&case.weight, sizes, reach, precision, isa).unwrap();
            let finish = Finish {
                bias: Some(&bias),
                shift: Some(&shift),
                function: Function::Silu,
                residual: Some(&residual),
            };
            let (found, size) = convolve(&case.x, sliding, &packed, finish).unwrap();
            prop_assert_eq!(size, resized);
            let mut expected = case.expected();
            for (i, y) in expected.iter_mut().enumerate() {
                let (pixel, column) = (i / columns, i % columns);
                let picture = pixel / (resized[0] * resized[1]);
                let sum = *y + f64::from(bias[column]) + f64::from(shift[picture * columns + column]);
                *y = activate(Function::Silu, sum) + f64::from(residual[i]);
            }
            // In bf16 both transformed factors are rounded to 8 bits, and sums of them cancel.
            let allowed = if precision == Precision::F32 { 1e-5 } else { 2e-2 };
            prop_assert!(error(&found, &expected) < allowed, "{isa} {precision:?}: {:e}", error(&found, &expected));
            let unpacked: Vec<f64> = case.weight.iter().map(|w| f64::from(*w)).collect();
            prop_assert!(error(&packed.unpack(), &unpacked) < allowed);
        }
    }

    #[test]
    fn attention_is_a_softmax_of_scores(
        batch in 1usize..3,
        heads in 1usize..4,
        d in prop::sample::select(if cfg!(miri) { vec![5usize, 40] } else { vec![1, 5, 8, 16, 40, 64, 80, 160, 300, 512] }),
        queries in 1usize..up_to(200),
        keys in 1usize..up_to(600),
        causal: bool,
        seed: u64,
    ) {
        let width = heads * d;
        let (queries, keys) = if d > 100 { (queries / 8 + 1, keys / 8 + 1) } else { (queries, keys) };
        let mask = if causal { AttentionMask::Causal } else { AttentionMask::None };
        // Numbers of bf16, so that the reference is exact for it too.
        let q = rounded(&normal(batch * queries * width, seed));
        let [k, v] = [1, 2].map(|i| rounded(&normal(batch * keys * width, seed ^ i)));
        let scale = 2. / (d as f64).sqrt();
        let mut expected = vec![0f64; q.len()];
        for (item, head, query) in (0..batch * heads * queries).map(|i| (i / queries / heads, i / queries % heads, i % queries)) {
            let at = |all: usize, row: usize| (item * all + row) * width + head * d;
            let from = &q[at(queries, query)..][..d];
            let seen = if causal { keys.min(query + 1) } else { keys };
            let scores: Vec<f64> = (0..seen).map(|key| {
                let k = &k[at(keys, key)..][..d];
                from.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() * scale
            }).collect();
            let top = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
            let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            for (key, score) in scores.iter().enumerate() {
                let v = &v[at(keys, key)..][..d];
                for (to, v) in expected[at(queries, query)..].iter_mut().zip(v) {
                    *to += (score - top).exp() / total * f64::from(*v);
                }
            }
        }
        let sizes = Heads { batch, heads, width, queries, keys };
        for (isa, precision, _) in ways() {
            // In bf16 the numerators and the result are rounded to 8 bits.
            let allowed = if precision == Precision::F32 { 1e-5 } else { 8e-3 };
            let found = attend_in(precision, [&q, &k, &v], sizes, mask, scale as f32, isa);
            prop_assert!(error(&found, &expected) < allowed, "{isa} {precision:?}: {:e}", error(&found, &expected));
        }
    }

    #[test]
    fn norms_are_by_group_and_by_row(
        n in 1usize..3,
        positions in 1usize..up_to(900),
        groups in 1usize..9,
        of_group in 1usize..20,
        silu: bool,
        seed: u64,
    ) {
        let channels = groups * of_group;
        // Far from zero, where a variance from sums of squares would lose its digits.
        let x: Vec<f32> = normal(n * positions * channels, seed).iter().map(|x| x + 50.).collect();
        let (weight, bias) = (normal(channels, seed ^ 1), normal(channels, seed ^ 2));
        let affine = Affine { weight: &weight, bias: &bias, eps: 1e-5 };
        let moments = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
            (mean, 1. / (variance + 1e-5).sqrt())
        };
        let mut grouped = vec![0f64; x.len()];
        for (i, group) in (0..n * groups).map(|i| (i / groups, i % groups)) {
            let at = |k: usize| (i * positions + k / of_group) * channels + group * of_group + k % of_group;
            let values: Vec<f64> = (0..positions * of_group).map(|k| f64::from(x[at(k)])).collect();
            let (mean, scale) = moments(&values);
            for (k, value) in values.iter().enumerate() {
                let c = at(k) % channels;
                let y = (value - mean) * scale * f64::from(weight[c]) + f64::from(bias[c]);
                grouped[at(k)] = if silu { activate(Function::Silu, y) } else { y };
            }
        }
        let by_row: Vec<f64> = x.chunks(channels).flat_map(|row| {
            let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            let (mean, scale) = moments(&row);
            let parameters = weight.iter().zip(&bias);
            row.into_iter().zip(parameters).map(move |(x, (w, b))| (x - mean) * scale * f64::from(*w) + f64::from(*b)).collect::<Vec<_>>()
        }).collect();
        for isa in Isa::available() {
            let found = group_norm(&x, [n, positions, channels], groups, affine, silu, isa).unwrap();
            // A mean of 50 is rounded to 2e-6, and a single value of a group has a scale of 300.
            let allowed = if positions * of_group < 8 { 2e-3 } else { 3e-5 };
            prop_assert!(error(&found, &grouped) < allowed, "{isa}: {:e}", error(&found, &grouped));
            let found = layer_norm(&x, affine, isa).unwrap();
            let allowed = if channels < 8 { 2e-3 } else { 3e-5 };
            prop_assert!(error(&found, &by_row) < allowed, "{isa}: {:e}", error(&found, &by_row));
        }
    }
}

#[test]
fn a_gated_layer_multiplies_values_by_activated_gates() {
    let (rows, inner, steps) = (up_to(37), up_to(96) / 32 * 32, up_to(300));
    let x = normal(rows * steps, 1);
    let weight: Vec<f32> = normal(2 * inner * steps, 2)
        .iter()
        .map(|w| w / 17.)
        .collect();
    let bias = normal(2 * inner, 3);
    let hidden = product(&x, &weight, steps);
    let expected: Vec<f64> = (0..rows * inner)
        .map(|i| {
            let at =
                |column: usize| hidden[i / inner * 2 * inner + column] + f64::from(bias[column]);
            at(i % inner) * activate(Function::Geglu, at(inner + i % inner))
        })
        .collect();
    for isa in Isa::available() {
        let order = Order::Gated;
        let packed =
            Weights::pack(&weight, [2 * inner, steps], order, Precision::F32, isa).unwrap();
        let bias = order.arrange(&bias);
        let finish = Finish {
            bias: Some(&bias),
            function: Function::Geglu,
            ..Finish::default()
        };
        let found = layer(&Matrix::new(&x, steps).unwrap(), &packed, finish).unwrap();
        assert!(error(&found, &expected) < 3e-6, "{isa}");
        assert_eq!(packed.unpack(1, order), weight);
    }
    assert!(!Order::Gated.fits(2 * 40));
}

#[test]
fn values_in_bf16_are_rounded_once() {
    let (rows, columns, steps) = (up_to(50), up_to(70), up_to(700));
    let (x, weight) = (
        to_bf16(&normal(rows * steps, 1)),
        to_bf16(&normal(columns * steps, 2)),
    );
    let wide = |values: &[bf16]| values.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
    let expected = product(&wide(&x), &wide(&weight), steps);
    for isa in Isa::available() {
        let packed = Weights::pack(
            &weight,
            [columns, steps],
            Order::Plain,
            Precision::Bf16,
            isa,
        )
        .unwrap();
        let found = layer(&Matrix::new(&x, steps).unwrap(), &packed, Finish::default()).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            // Half a unit in the last place of 8 bits, and the sums' own error.
            let allowed = expected.abs() / 256. + 1e-4;
            assert!(
                (f64::from(found.to_f32()) - expected).abs() <= allowed,
                "{isa}"
            );
        }
    }
}

/// Attention with inputs and result of this precision.
fn attend_in(
    precision: Precision,
    inputs: [&[f32]; 3],
    sizes: Heads,
    mask: AttentionMask,
    scale: f32,
    isa: Isa,
) -> Vec<f32> {
    match precision {
        Precision::F32 => attend(inputs, sizes, mask, scale, isa).unwrap(),
        Precision::Bf16 => {
            let [q, k, v] = inputs.map(to_bf16);
            let found = attend([&q, &k, &v], sizes, mask, scale, isa).unwrap();
            found.iter().map(|x| x.to_f32()).collect()
        }
    }
}

#[test]
fn nan_and_infinity_come_out_where_they_should() {
    let (rows, columns, steps) = (9, 20, 40);
    for (isa, precision, _) in ways() {
        let mut x = vec![1f32; rows * steps];
        x[3 * steps + 5] = f32::NAN;
        x[5 * steps + 39] = f32::INFINITY;
        let weight = vec![1f32; columns * steps];
        let packed =
            Weights::pack(&weight, [columns, steps], Order::Plain, precision, isa).unwrap();
        let y = layer(&Matrix::new(&x, steps).unwrap(), &packed, Finish::default()).unwrap();
        for (row, y) in y.chunks(columns).enumerate() {
            for y in y {
                match row {
                    3 => assert!(y.is_nan()),
                    5 => assert_eq!(*y, f32::INFINITY),
                    _ => assert_eq!(*y, steps as f32),
                }
            }
        }
    }
    let (queries, keys, d) = (4, 300, 8);
    let sizes = Heads {
        batch: 1,
        heads: 1,
        width: d,
        queries,
        keys,
    };
    for (isa, precision, _) in ways() {
        let (mut q, mut k) = (normal(queries * d, 1), normal(keys * d, 2));
        let v = vec![1f32; keys * d];
        q[d] = f32::NAN;
        // The first block of keys scores minus infinity for all queries but the second.
        for query in [0, 2, 3] {
            q[query * d] = 1.;
        }
        for key in 0..256 {
            k[key * d] = f32::NEG_INFINITY;
        }
        let allowed = if precision == Precision::F32 {
            1e-6
        } else {
            8e-3
        };
        let y = attend_in(precision, [&q, &k, &v], sizes, AttentionMask::None, 1., isa);
        for (query, y) in y.chunks(d).enumerate() {
            if query == 1 {
                assert!(y.iter().all(|y| y.is_nan()));
            } else {
                assert!(
                    y.iter().all(|y| (y - 1.).abs() < allowed),
                    "{isa} {precision:?} {query}: {y:?}"
                );
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error_and_nothing_gives_nothing() {
    let isa = Isa::best();
    let pack = |count: usize, columns, steps, order| {
        Weights::pack(
            &vec![0f32; count],
            [columns, steps],
            order,
            Precision::F32,
            isa,
        )
    };
    assert!(pack(5, 2, 3, Order::Plain).is_err());
    assert!(pack(60, 60, 1, Order::Gated).is_err());
    let packed = pack(6, 2, 3, Order::Plain).unwrap();
    let x = [0f32; 12];
    assert!(Matrix::new(&x, 5).is_err() && Matrix::new(&x, 0).is_err());
    let run = |steps, finish| layer(&Matrix::new(&x, steps).unwrap(), &packed, finish);
    assert!(run(4, Finish::default()).is_err());
    let bias = Some(&[0f32; 3][..]);
    assert!(
        run(
            3,
            Finish {
                bias,
                ..Finish::default()
            }
        )
        .is_err()
    );
    let residual = Some(&x[..7]);
    assert!(
        run(
            3,
            Finish {
                residual,
                ..Finish::default()
            }
        )
        .is_err()
    );
    let function = Function::Geglu;
    assert!(
        run(
            3,
            Finish {
                function,
                ..Finish::default()
            }
        )
        .is_err()
    );
    let none: [f32; 0] = [];
    let empty = Matrix::new(&none, 3).unwrap();
    assert!(
        layer(&empty, &packed, Finish::default())
            .unwrap()
            .is_empty()
    );
    let sizes = Heads {
        batch: 1,
        heads: 3,
        width: 4,
        queries: 1,
        keys: 1,
    };
    let four = [0f32; 4];
    assert!(attend([&four, &four, &four], sizes, AttentionMask::None, 1., isa).is_err());
    let affine = Affine {
        weight: &four,
        bias: &four,
        eps: 1e-5,
    };
    assert!(group_norm(&four, [1, 1, 4], 3, affine, false, isa).is_err());
    assert!(layer_norm(&x[..6], affine, isa).is_err());
    let sliding = Sliding {
        picture: [2, 2],
        resized: [2, 2],
        kernel: [3, 3],
        stride: 1,
        before: 0,
        after: 0,
    };
    assert!(Windows::new(&four, 1, sliding).is_err());
    assert!(
        Windows::new(
            &four,
            3,
            Sliding {
                before: 1,
                ..sliding
            }
        )
        .is_err()
    );
}
