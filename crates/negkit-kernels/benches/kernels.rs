//! The kernels for inference at sizes of Stable Diffusion's UNet, on one thread, with every set of
//! instructions that the machine has. Criterion's "Gelem/s" are GFLOP/s here.
//!
//! `cargo bench -p negkit-kernels --bench kernels -- [filter]`
#![allow(clippy::unwrap_used)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use negkit_kernels::{
    Affine, AttentionMask, Convolution, Finish, Heads, Isa, Matrix, Order, Precision, Reach,
    Sliding, Weights, Windows, attend, group_norm, layer,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

fn normal(count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(count as u64);
    (0..count)
        .map(|_| StandardNormal.sample(&mut rng))
        .collect()
}

fn layers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layer");
    for [rows, columns, steps] in [[4096, 320, 320], [1024, 640, 640], [256, 1280, 5120]] {
        let (x, weight) = (normal(rows * steps), normal(columns * steps));
        group.throughput(Throughput::Elements((2 * rows * columns * steps) as u64));
        for isa in Isa::available() {
            for precision in [Precision::F32, Precision::Bf16] {
                let sizes = [columns, steps];
                let packed = Weights::pack(&weight, sizes, Order::Plain, precision, isa).unwrap();
                let rows_of_x = Matrix::new(&x, steps).unwrap();
                let name = format!("{rows}x{columns}x{steps} {isa} {precision:?}");
                group.bench_function(name, |b| {
                    b.iter(|| layer(&rows_of_x, &packed, Finish::default()).unwrap());
                });
            }
        }
    }
}

fn convolutions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conv 3x3");
    for [channels, side] in [[320, 64], [640, 32], [1280, 16], [1280, 8]] {
        let (x, weight) = (
            normal(side * side * channels),
            normal(channels * channels * 9),
        );
        let sliding = Sliding {
            picture: [side, side],
            resized: [side, side],
            kernel: [3, 3],
            stride: 1,
            before: 1,
            after: 1,
        };
        let operations = 2 * 9 * side * side * channels * channels;
        group.throughput(Throughput::Elements(operations as u64));
        for isa in Isa::available() {
            let sizes = [channels, channels, 9];
            let packed =
                Weights::pack_taps(&weight, sizes, Order::Plain, Precision::F32, isa).unwrap();
            let windows = Windows::new(&x, channels, sliding).unwrap();
            group.bench_function(format!("{channels} at {side} {isa}"), |b| {
                b.iter(|| layer(&windows, &packed, Finish::default()).unwrap());
            });
        }
    }
}

/// Weights of files, in f16, as they are packed when a model is loaded; here "elements" are values.
fn packing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pack");
    let half = |count| -> Vec<f16> { normal(count).into_iter().map(f16::from_f32).collect() };
    let (linear, kernel) = (half(1280 * 1280), half(640 * 640 * 9));
    for isa in Isa::available() {
        for precision in [Precision::F32, Precision::Bf16] {
            group.throughput(Throughput::Elements(linear.len() as u64));
            group.bench_function(format!("1280x1280 {isa} {precision:?}"), |b| {
                let sizes = [1280, 1280];
                b.iter(|| Weights::pack(&linear, sizes, Order::Plain, precision, isa).unwrap());
            });
            group.throughput(Throughput::Elements(kernel.len() as u64));
            for (name, reach) in [("windows", Reach::Any), ("tiles", Reach::Same3x3)] {
                group.bench_function(format!("640x640x3x3 {name} {isa} {precision:?}"), |b| {
                    let sizes = [640, 640, 9];
                    b.iter(|| Convolution::pack(&kernel, sizes, reach, precision, isa).unwrap());
                });
            }
        }
    }
}

fn attentions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    for [queries, keys, heads, d] in [[1024, 1024, 8, 40], [1024, 1024, 1, 512], [1024, 77, 8, 40]]
    {
        let width = heads * d;
        let q = normal(queries * width);
        let (k, v) = (normal(keys * width), normal(keys * width));
        let sizes = Heads {
            batch: 1,
            heads,
            width,
            queries,
            keys,
        };
        group.throughput(Throughput::Elements((4 * queries * keys * width) as u64));
        for isa in Isa::available() {
            group.bench_function(format!("{queries}x{keys} {heads}x{d} {isa}"), |b| {
                b.iter(|| attend([&q, &k, &v], sizes, AttentionMask::None, 0.1, isa).unwrap());
            });
        }
    }
}

fn norms(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group norm and SiLU");
    let (positions, channels) = (4096, 320);
    let x = normal(positions * channels);
    let (weight, bias) = (normal(channels), normal(channels));
    let affine = Affine {
        weight: &weight,
        bias: &bias,
        eps: 1e-5,
    };
    group.throughput(Throughput::Elements((positions * channels) as u64));
    for isa in Isa::available() {
        group.bench_function(isa.to_string(), |b| {
            b.iter(|| group_norm(&x, [1, positions, channels], 32, affine, true, isa).unwrap());
        });
    }
}

/// Everything on one thread, which other work on the machine disturbs least.
fn on_one_thread(criterion: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
    pool.build_global().unwrap();
    layers(criterion);
    convolutions(criterion);
    packing(criterion);
    attentions(criterion);
    norms(criterion);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = on_one_thread
}
criterion_main!(benches);
