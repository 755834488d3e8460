//! Layers whose weights are packed, on tensors: the way to the kernels of `negkit-kernels` that are for
//! inference.

use candle_core::{DType, Device, Result, Tensor, bail};
use half::bf16;
use negkit_kernels::{
    Affine, AttentionMask, Convolution, Finish, Function, Heads, Isa, Matrix, Sliding, Weights,
    attend, convolve, group_norm, layer, layer_norm,
};

use crate::packed::{Packed, Value, borrow, channels_last};

/// What is done to a layer's product before it is written.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rest<'a> {
    pub(crate) bias: Option<&'a [f32]>,
    /// `[n, columns]`: a row for every picture.
    pub(crate) shift: Option<&'a Tensor>,
    pub(crate) function: Function,
    /// Of the result's shape.
    pub(crate) residual: Option<&'a Tensor>,
}

/// Calls `$function::<T>` for the type of tensor `$x`.
macro_rules! of_type {
    ($x:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $x.dtype() {
            DType::F32 => $function::<f32>($($argument),*),
            DType::BF16 => $function::<bf16>($($argument),*),
            dtype => bail!("the CPU's kernels take f32 and bf16, found {dtype:?}"),
        }
    };
}

/// Calls `work` with `rest` as the kernels take it.
fn finish<T: Value, R>(
    rest: Rest,
    residual: Option<&Tensor>,
    work: impl FnOnce(Finish<T>) -> Result<R>,
) -> Result<R> {
    let finish = Finish {
        bias: rest.bias,
        shift: None,
        function: rest.function,
        residual: None,
    };
    match (rest.shift, residual) {
        (None, None) => work(finish),
        (Some(shift), None) => borrow(shift, |shift| {
            let shift = Some(shift);
            work(Finish { shift, ..finish })
        }),
        (None, Some(residual)) => borrow(residual, |residual| {
            let residual = Some(residual);
            work(Finish { residual, ..finish })
        }),
        (Some(shift), Some(residual)) => borrow(shift, |shift| {
            borrow(residual, |residual| {
                let (shift, residual) = (Some(shift), Some(residual));
                work(Finish {
                    shift,
                    residual,
                    ..finish
                })
            })
        }),
    }
}

/// `[.., steps]` to `[.., columns]`.
pub(crate) fn linear(x: &Tensor, packed: &Packed<Weights>, rest: Rest) -> Result<Tensor> {
    of_type!(x, linear_of(x, packed, rest))
}

fn linear_of<T: Value>(x: &Tensor, packed: &Packed<Weights>, rest: Rest) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let Some(last) = dims.last_mut() else {
        bail!("linear: expected an input of at least one dimension, found a scalar")
    };
    if *last != packed.weights.steps() {
        bail!(
            "linear: expected a last dimension of {}, found shape {:?}",
            packed.weights.steps(),
            x.dims()
        )
    }
    let gated = rest.function == Function::Geglu;
    *last = packed.weights.columns() / if gated { 2 } else { 1 };
    if let Some(residual) = rest.residual
        && residual.dims() != dims
    {
        bail!("linear: cannot add {:?} to {dims:?}", residual.dims())
    }
    let values = borrow::<T, _>(x, |values| {
        let rows = Matrix::new(values, packed.weights.steps())?;
        finish(rest, rest.residual, |finish| {
            layer(&rows, &packed.weights, finish)
        })
    })?;
    Tensor::from_vec(values, dims, &Device::Cpu)
}

/// `[n, input, h, w]` to `[n, output, h', w']`, channels last in memory.
pub(crate) fn conv2d(
    x: &Tensor,
    packed: &Packed<Convolution>,
    sliding: Sliding,
    rest: Rest,
) -> Result<Tensor> {
    of_type!(x, conv2d_of(x, packed, sliding, rest))
}

fn conv2d_of<T: Value>(
    x: &Tensor,
    packed: &Packed<Convolution>,
    sliding: Sliding,
    rest: Rest,
) -> Result<Tensor> {
    let (n, channels, ..) = x.dims4()?;
    let (columns, inputs) = (packed.weights.columns(), packed.weights.inputs());
    if channels != inputs {
        bail!(
            "conv2d: expected {inputs} channels, found shape {:?}",
            x.dims()
        )
    }
    if let Some(shift) = rest.shift
        && shift.dims() != [n, columns]
    {
        bail!(
            "conv2d: cannot add {:?} to {columns} channels of {n} pictures",
            shift.dims()
        )
    }
    let residual = rest.residual.map(channels_last).transpose()?;
    if let (Some(residual), Some([height, width])) = (&residual, sliding.windows())
        && residual.dims() != [n, height, width, columns]
    {
        bail!(
            "conv2d: cannot add {:?} to {:?}",
            residual.dims(),
            [n, height, width, columns]
        )
    }
    let (values, [height, width]) = borrow::<T, _>(&channels_last(x)?, |values| {
        finish(rest, residual.as_ref(), |finish| {
            convolve(values, sliding, &packed.weights, finish)
        })
    })?;
    Tensor::from_vec(values, (n, height, width, columns), &Device::Cpu)?.permute((0, 3, 1, 2))
}

/// Attention of `heads` heads; `q` `[batch, queries, width]`, `k` and `v` `[batch, keys, width]`.
pub(crate) fn attention(
    [q, k, v]: [&Tensor; 3],
    heads: usize,
    mask: AttentionMask,
    scale: f64,
) -> Result<Tensor> {
    of_type!(q, attention_of([q, k, v], heads, mask, scale))
}

fn attention_of<T: Value>(
    [q, k, v]: [&Tensor; 3],
    heads: usize,
    mask: AttentionMask,
    scale: f64,
) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    if k.dims() != v.dims() || k.dim(0)? != batch || k.dim(2)? != width {
        bail!(
            "attention: queries {:?}, keys {:?} and values {:?}",
            q.dims(),
            k.dims(),
            v.dims()
        )
    }
    let sizes = Heads {
        batch,
        heads,
        width,
        queries,
        keys: k.dim(1)?,
    };
    let values = borrow::<T, _>(q, |q| {
        borrow::<T, _>(k, |k| {
            borrow::<T, _>(v, |v| {
                attend([q, k, v], sizes, mask, scale as f32, Isa::current())
            })
        })
    })?;
    Tensor::from_vec(values, (batch, queries, width), &Device::Cpu)
}

/// Group normalisation of a picture whose channels are last in memory, then SiLU where it is asked for.
pub(crate) fn group_normalize(
    x: &Tensor,
    groups: usize,
    affine: Affine,
    silu: bool,
) -> Result<Tensor> {
    of_type!(x, group_normalize_of(x, groups, affine, silu))
}

fn group_normalize_of<T: Value>(
    x: &Tensor,
    groups: usize,
    affine: Affine,
    silu: bool,
) -> Result<Tensor> {
    let (n, channels, h, w) = x.dims4()?;
    let sizes = [n, h * w, channels];
    let values = borrow::<T, _>(&channels_last(x)?, |values| {
        group_norm(values, sizes, groups, affine, silu, Isa::current())
    })?;
    Tensor::from_vec(values, (n, h, w, channels), &Device::Cpu)?.permute((0, 3, 1, 2))
}

/// Layer normalisation over the last dimension.
pub(crate) fn layer_normalize(x: &Tensor, affine: Affine) -> Result<Tensor> {
    of_type!(x, layer_normalize_of(x, affine))
}

fn layer_normalize_of<T: Value>(x: &Tensor, affine: Affine) -> Result<Tensor> {
    let values = borrow::<T, _>(x, |values| layer_norm(values, affine, Isa::current()))?;
    Tensor::from_vec(values, x.shape(), &Device::Cpu)
}
