//! Attention on NVIDIA's GPUs (`cuda/attention.cu`): scores never leave the chip.
//!
//! The kernels are compiled when this crate is (`build.rs`), and loaded when they are first called.
//! `tests/cuda_emulated.rs` runs them on a CPU.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaView, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail,
};
use half::{bf16, f16};

use crate::AttentionMask;

const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/attention.ptx"));
/// The name that the device keeps the loaded kernels under.
const MODULE: &str = "negkit-attention";
/// As in `attention.cu`.
const THREADS: u32 = 128;
const QUERIES: usize = 64;
/// The widths that there are kernels for. Heads that are wider than the last are read in parts of `PART`.
const WIDTHS: [usize; 6] = [32, 48, 64, 80, 128, 160];
const PART: usize = 128;
/// Most blocks in the second direction of a grid ("CUDA C++ Programming Guide", compute capabilities).
const MOST_HEADS: usize = 65_535;
/// Copies are of 16 bytes.
const NUMBERS_A_COPY: usize = 8;
/// The least generation that has the kernels' instructions.
const LEAST_CAPABILITY: i32 = 8;

/// Whether [`attend_on_gpu`] can be called on a device: its compute capability is 8.0 or above.
///
/// # Errors
/// When the driver cannot say.
pub fn gpu_attends(device: &CudaDevice) -> Result<bool> {
    let stream = device.cuda_stream();
    let (major, _) = stream.context().compute_capability().w()?;
    Ok(major >= LEAST_CAPABILITY)
}

/// Whether [`attend_on_gpu`] takes these: f16 or bf16 on one GPU, heads of a multiple of 8 columns, no
/// gradient. Shapes are those that it wants.
pub fn suits_gpu([q, k, v]: [&Tensor; 3], heads: usize) -> bool {
    let same = [k, v]
        .iter()
        .all(|t| t.dtype() == q.dtype() && t.device().same_device(q.device()));
    let (Ok((batch, queries, width)), Ok((_, keys, _))) = (q.dims3(), k.dims3()) else {
        return false;
    };
    q.device().is_cuda()
        && same
        && matches!(q.dtype(), DType::F16 | DType::BF16)
        && ![q, k, v].iter().any(|tensor| tensor.track_op())
        && batch * queries * keys * width > 0
        && width.is_multiple_of(heads * NUMBERS_A_COPY)
        && batch * heads <= MOST_HEADS
        && [queries, keys, width]
            .iter()
            .all(|&n| i32::try_from(n).is_ok())
}

/// `softmax(q k^T * scale) v` for every head, scores in f32 and never in memory; `q`
/// `[batch, queries, width]`, `k` and `v` `[batch, keys, width]`; gives the shape of `q`.
///
/// Sums are in f32, the softmax's numerators are rounded to the tensors' type where they are factors of
/// the second product. Source: "FlashAttention-2" (Dao 2023), algorithm 1.
///
/// # Errors
/// When shapes do not fit, [`suits_gpu`] is not so, or the driver fails.
pub fn attend_on_gpu(
    [q, k, v]: [&Tensor; 3],
    heads: usize,
    mask: AttentionMask,
    scale: f64,
) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    let keys = k.dim(1)?;
    if k.dims() != v.dims() || k.dims() != [batch, keys, width] {
        bail!(
            "attention: queries {:?}, keys {:?} and values {:?}",
            q.dims(),
            k.dims(),
            v.dims()
        )
    }
    if !suits_gpu([q, k, v], heads) {
        bail!(
            "attention on a GPU: expected f16 or bf16 and heads of a multiple of {NUMBERS_A_COPY} \
             columns, found {:?} and {heads} heads of {:?}",
            q.dtype(),
            q.shape()
        )
    }
    let attention = Attention {
        batch,
        heads,
        queries,
        keys,
        size: width / heads,
        scale,
        mask,
    };
    let [q, k, v] = [aligned(q)?, aligned(k)?, aligned(v)?];
    q.apply_op3_no_bwd(&k, &v, &attention)
}

/// The tensor, contiguous and from an address that a copy of 16 bytes can begin at.
fn aligned(tensor: &Tensor) -> Result<Tensor> {
    let tensor = tensor.contiguous()?;
    if tensor
        .layout()
        .start_offset()
        .is_multiple_of(NUMBERS_A_COPY)
    {
        Ok(tensor)
    } else {
        tensor.copy()
    }
}

struct Attention {
    batch: usize,
    heads: usize,
    queries: usize,
    keys: usize,
    /// Columns of a head.
    size: usize,
    scale: f64,
    mask: AttentionMask,
}

/// The columns that a kernel for heads of `size` has.
fn width_for(size: usize) -> usize {
    let fits = WIDTHS.into_iter().find(|&width| size <= width);
    fits.unwrap_or(PART)
}

/// What a contiguous tensor has in memory.
fn slice<'a, T: CudaDType>(
    (storage, layout): (&'a CudaStorage, &Layout),
) -> Result<CudaView<'a, T>> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("attention on a GPU: expected a contiguous tensor, found {layout:?}")
    };
    Ok(storage.as_cuda_slice::<T>()?.slice(from..to))
}

impl Attention {
    #[allow(
        unsafe_code,
        reason = "memory that is not zeroed, and a kernel's arguments"
    )]
    fn run<T: CudaDType + DeviceRepr>(
        &self,
        [q, k, v]: [(&CudaStorage, &Layout); 3],
        dtype: &str,
    ) -> Result<(CudaStorage, Shape)> {
        let device = q.0.device();
        let width = width_for(self.size);
        let name = format!("attention_{dtype}_{width}");
        let function = device.get_or_load_custom_func(&name, MODULE, PTX)?;
        let shape = q.1.shape().clone();
        // SAFETY: the kernel writes every element.
        let out = unsafe { device.alloc::<T>(shape.elem_count())? };
        let [q, k, v] = [slice::<T>(q)?, slice::<T>(k)?, slice::<T>(v)?];
        let [queries, keys, heads, size] =
            [self.queries, self.keys, self.heads, self.size].map(|n| n as i32);
        let scale = (self.scale * std::f64::consts::LOG2_E) as f32;
        let causal = i32::from(self.mask == AttentionMask::Causal);
        let mut launch = function.builder();
        launch.arg(&q).arg(&k).arg(&v).arg(&out);
        launch.arg(&queries).arg(&keys).arg(&heads).arg(&size);
        launch.arg(&scale).arg(&causal);
        let blocks = [
            self.queries.div_ceil(QUERIES),
            self.batch * self.heads,
            self.size.div_ceil(width),
        ];
        let [x, y, z] = blocks.map(|n| n as u32);
        // SAFETY: the arguments are those of the kernel, `attend_on_gpu` has compared their shapes, and
        // `suits_gpu` their sizes with what an i32 and a grid can hold.
        unsafe {
            launch.launch(LaunchConfig {
                grid_dim: (x, y, z),
                block_dim: (THREADS, 1, 1),
                shared_mem_bytes: 0,
            })
        }
        .w()?;
        Ok((CudaStorage::wrap_cuda_slice(out, device.clone()), shape))
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("attention on a GPU: the tensors are on the CPU")
    }

    fn cuda_fwd(
        &self,
        q: &CudaStorage,
        q_layout: &Layout,
        k: &CudaStorage,
        k_layout: &Layout,
        v: &CudaStorage,
        v_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let tensors = [(q, q_layout), (k, k_layout), (v, v_layout)];
        match q.dtype() {
            DType::F16 => self.run::<f16>(tensors, "f16"),
            DType::BF16 => self.run::<bf16>(tensors, "bf16"),
            dtype => bail!("attention on a GPU: expected f16 or bf16, found {dtype:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_of_head_has_a_kernel() {
        for size in (NUMBERS_A_COPY..=1024).step_by(NUMBERS_A_COPY) {
            let width = width_for(size);
            assert!(width >= size || size > WIDTHS[WIDTHS.len() - 1]);
            for kind in ["f16", "bf16"] {
                let name = format!(".entry attention_{kind}_{width}(");
                assert!(PTX.contains(&name), "{name} for heads of {size}");
            }
        }
    }
}
