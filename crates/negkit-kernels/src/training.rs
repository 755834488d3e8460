//! Fused f32 kernels for the CPU, with their gradients.
//!
//! candle computes a norm or an activation as a row of operations, each through memory, and as many
//! again for the gradient. A kernel here goes through memory as few times as the formula allows, on
//! all cores. pulp compiles every inner loop once per instruction set and chooses when it runs, so
//! that a portable build uses AVX-512 where it is and no unsafe code is needed for it.
//!
//! Work is divided by shape, never by the number of threads, and sums over several tasks are taken in
//! the order of the tasks: the same inputs give the same bits.

mod attention;
mod bias;
mod conv;
mod elementwise;
mod feed_forward;
mod linear;
mod norm;
mod scratch;
mod softmax;
#[cfg(test)]
mod tests;

use candle_core::{
    CpuStorage, DType, Device, Layout, Result, Shape, Storage, StorageRef, Tensor, bail,
};

pub use attention::{AttentionMask, multi_head_attention};
pub use bias::{add_bias, add_per_channel};
pub use conv::conv2d;
pub use elementwise::{
    Elementwise, Function, Gate, Geglu, GeluErf, Identity, QuickGelu, Relu, Silu, elementwise,
    geglu,
};
pub use feed_forward::feed_forward;
pub use linear::{linear, matmul};
pub use norm::{group_norm, group_norm_then, layer_norm};
pub use softmax::softmax;

/// Values that one task handles at least: below it, starting a task costs more than it saves.
pub const TASK: usize = 1 << 14;

/// Whether the kernels of this module can take these tensors, once they are contiguous.
pub fn suit(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| {
        tensor.device().is_cpu() && tensor.dtype() == DType::F32 && tensor.elem_count() > 0
    })
}

/// Whether the kernels of this module can take these tensors as they are.
pub fn take(tensors: &[&Tensor]) -> bool {
    suit(tensors) && tensors.iter().all(|tensor| tensor.is_contiguous())
}

/// The values of a tensor, borrowed.
struct View<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> View<'a> {
    fn of(tensor: &'a Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        Self { storage, layout }
    }

    /// The values, if they are f32 on the CPU and contiguous.
    fn values(&self, op: &str) -> Result<&[f32]> {
        match &*self.storage {
            Storage::Cpu(storage) => values(op, storage, self.layout),
            _ => bail!("{op}: expected values in the CPU's memory"),
        }
    }
}

/// A tensor that holds a gradient.
fn gradient(values: Vec<f32>, shape: &Shape) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// e^x, to 2 units in the last place: Cephes' `expf`, without branches.
///
/// Zero below -87.3, where the result would be a subnormal number, and e^88 above 88.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -87.3;
    const HIGHEST: f32 = 88.;
    /// Adding it leaves the nearest whole number in the low bits of the sum.
    const ROUND: f32 = 12_582_912.;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let y = x.clamp(LOWEST, HIGHEST);
    let rounded = y * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = y - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    p = p * r * r + r + 1.;
    let power_of_two = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < LOWEST { 0. } else { p * power_of_two }
}

/// The error function, to 5e-7: the rational approximation of Eigen and XLA.
#[inline(always)]
fn erf(x: f32) -> f32 {
    /// From here on the result is 1 in f32.
    const ONE_FROM: f32 = 3.92;
    let y = x.clamp(-ONE_FROM, ONE_FROM);
    let s = y * y;
    let mut p = -2.726_142_3e-10;
    p = p * s + 2.770_681_4e-8;
    p = p * s - 2.101_024e-6;
    p = p * s - 5.692_506_4e-5;
    p = p * s - 7.349_906_3e-4;
    p = p * s - 2.954_6e-3;
    p = p * s - 1.609_603_3e-2;
    let mut q = -1.456_607_2e-5;
    q = q * s - 2.133_740_6e-4;
    q = q * s - 1.682_827e-3;
    q = q * s - 7.373_329_2e-3;
    q = q * s - 1.426_474e-2;
    if x.abs() >= ONE_FROM {
        1f32.copysign(x)
    } else {
        y * p / q
    }
}

const LANES: usize = 16;

/// The sum of `term` over all values. Blocks are summed in f32, as many sums side by side as vector
/// registers are wide; the blocks' sums in f64, so that millions of values lose nothing.
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    const BLOCK: usize = 4096;
    let mut total = 0.;
    for block in values.chunks(BLOCK) {
        let mut lanes = [0f32; LANES];
        let (vectors, rest) = block.as_chunks::<LANES>();
        for vector in vectors {
            for (lane, value) in lanes.iter_mut().zip(vector) {
                *lane += term(*value);
            }
        }
        let tail: f32 = rest.iter().map(|value| term(*value)).sum();
        total += f64::from(lanes.iter().sum::<f32>() + tail);
    }
    total
}

/// The sum of `term(a, b)` over all pairs, as [`sum`] sums.
#[inline(always)]
fn sum_pairs(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    const BLOCK: usize = 4096;
    let mut total = 0.;
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        let mut lanes = [0f32; LANES];
        let (a_vectors, a_rest) = a.as_chunks::<LANES>();
        let (b_vectors, b_rest) = b.as_chunks::<LANES>();
        for (a, b) in a_vectors.iter().zip(b_vectors) {
            for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                *lane += term(*a, *b);
            }
        }
        let rest = a_rest.iter().zip(b_rest);
        let tail: f32 = rest.map(|(a, b)| term(*a, *b)).sum();
        total += f64::from(lanes.iter().sum::<f32>() + tail);
    }
    total
}

/// The largest value.
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (vectors, rest) = values.as_chunks::<LANES>();
    for vector in vectors {
        for (lane, value) in lanes.iter_mut().zip(vector) {
            *lane = greater(*lane, *value);
        }
    }
    let all = lanes.iter().chain(rest);
    all.fold(f32::NEG_INFINITY, |a, b| greater(a, *b))
}

/// Mean and `1 / sqrt(variance + eps)`.
#[inline(always)]
pub(crate) fn moments(values: &[f32], eps: f64) -> (f32, f32) {
    let count = values.len() as f64;
    let mean = (sum(values, |x| x) / count) as f32;
    let variance = sum(values, |x| (x - mean) * (x - mean)) / count;
    (mean, (1. / (variance + eps).sqrt()) as f32)
}

/// The values of a contiguous f32 tensor.
fn values<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(all), Some((start, end))) => Ok(&all[start..end]),
        _ => bail!("{op}: expected contiguous f32 values"),
    }
}

fn output(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

/// How many rows of `width` make a task.
fn rows_a_task(width: usize) -> usize {
    (TASK / width.max(1)).max(1)
}
