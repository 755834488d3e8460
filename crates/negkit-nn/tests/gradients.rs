//! Gradients of every operation and layer, against finite differences in f64, and the path that is
//! taken for training against the one for inference, in f32.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};
use negkit_nn::{
    Activation, AttentionBudget, AttentionMask, Conv2d, ConvOptions, ConvTranspose2d, Embedding,
    GroupNorm, LayerNorm, Linear, MultiHeadAttention, Params, TensorSource, attention, ops,
    resize_bicubic, resize_bilinear, upsample_nearest,
};

/// Relative L2 error allowed for a gradient: candle's constants in the gradient of GELU have six
/// digits.
const GRADIENT: f64 = 3e-6;
/// Relative L2 error allowed between the paths for training and for inference.
const SAME_VALUE: f64 = 2e-6;

/// Normal values in f64, the same for the same name.
fn normal(name: &str, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    Params::random(3, DType::F64, &Device::Cpu)
        .get((count, 1), name)
        .and_then(|t| t.reshape(shape))
        .unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap();
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn relative_l2(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let difference: f64 = found
        .iter()
        .zip(expected)
        .map(|(f, e)| (f - e).powi(2))
        .sum();
    let norm: f64 = expected.iter().map(|e| e * e).sum();
    assert!(norm > 0., "the reference is zero");
    (difference / norm).sqrt()
}

/// Checks `f` at random inputs of these shapes.
fn check(name: &str, shapes: &[&[usize]], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let inputs: Vec<Tensor> = shapes
        .iter()
        .enumerate()
        .map(|(i, shape)| normal(&format!("{name}.{i}"), shape))
        .collect();
    let tracked = |inputs: &[Tensor]| -> (Vec<Var>, Tensor) {
        let vars: Vec<Var> = inputs
            .iter()
            .map(|t| Var::from_tensor(t).unwrap())
            .collect();
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let y = f(&tensors).unwrap();
        (vars, y)
    };
    let (vars, y) = tracked(&inputs);
    // A random direction, so that no part of the output cancels.
    let direction = normal(&format!("{name}.direction"), y.dims());
    let loss = (y * &direction).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    for (i, var) in vars.iter().enumerate() {
        let found = gradients
            .get(var)
            .unwrap_or_else(|| panic!("{name}: input {i} has no gradient"));
        let expected = finite_differences(&inputs, i, &|inputs| {
            let y = f(inputs).unwrap();
            values(&(y * &direction).unwrap().sum_all().unwrap())[0]
        });
        let error = relative_l2(&values(found), &expected);
        println!("{name:32} input {i}: {error:.1e}");
        assert!(
            error <= GRADIENT,
            "{name}: gradient of input {i} is off by {error:e}"
        );
    }

    let inputs: Vec<Tensor> = inputs
        .iter()
        .map(|t| t.to_dtype(DType::F32).unwrap())
        .collect();
    let training = values(&tracked(&inputs).1);
    let inference = values(&f(&inputs).unwrap());
    let error = relative_l2(&inference, &training);
    assert!(
        error <= SAME_VALUE,
        "{name}: inference and training differ by {error:e}"
    );
}

/// Central differences of `loss` by every value of one input.
fn finite_differences(inputs: &[Tensor], i: usize, loss: &dyn Fn(&[Tensor]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let start = values(&inputs[i]);
    let at = |j: usize, step: f64| {
        let mut moved = start.clone();
        moved[j] += step;
        let mut inputs = inputs.to_vec();
        inputs[i] = Tensor::from_vec(moved, inputs[i].dims(), &Device::Cpu).unwrap();
        loss(&inputs)
    };
    (0..start.len())
        .map(|j| (at(j, STEP) - at(j, -STEP)) / (2. * STEP))
        .collect()
}

#[test]
fn products() {
    check("matmul", &[&[2, 3, 4], &[2, 4, 5]], |t| {
        ops::matmul(&t[0], &t[1])
    });
    check("linear", &[&[2, 3, 4], &[5, 4], &[5]], |t| {
        ops::linear(&t[0], &t[1], Some(&t[2]))
    });
    check("linear without bias", &[&[3, 4], &[5, 4]], |t| {
        ops::linear(&t[0], &t[1], None)
    });
    // The transposed input is not contiguous.
    check(
        "linear of a transposed input",
        &[&[4, 3], &[5, 4], &[5]],
        |t| ops::linear(&t[0].t()?, &t[1], Some(&t[2])),
    );
}

#[test]
fn convolutions() {
    for (kernel, stride, padding, size) in [
        (1, 1, 0, [5, 4]),
        (3, 1, 1, [5, 4]),
        (3, 2, 1, [5, 6]),
        (3, 2, 0, [7, 7]),
        (2, 2, 0, [4, 6]),
    ] {
        let name = format!("conv2d {kernel}x{kernel} stride {stride} padding {padding}");
        let shapes: [&[usize]; 3] = [&[2, 3, size[0], size[1]], &[4, 3, kernel, kernel], &[4]];
        check(&name, &shapes, |t| {
            ops::conv2d(&t[0], &t[1], Some(&t[2]), stride, padding)
        });
    }
}

#[test]
fn norms() {
    check("layer_norm", &[&[2, 3, 7], &[7], &[7]], |t| {
        ops::layer_norm(&t[0], &t[1], &t[2], 1e-5)
    });
    check("group_norm", &[&[2, 6, 3, 5], &[6], &[6]], |t| {
        ops::group_norm(&t[0], 3, &t[1], &t[2], 1e-6)
    });
    // Training a norm alone, as adapters do: the input is not tracked.
    let x = normal("x", &[3, 6, 2]);
    for (name, group) in [("layer_norm bias", false), ("group_norm bias", true)] {
        let width = if group { 6 } else { 2 };
        let weight = normal("weight", &[width]);
        check(name, &[&[width]], |t| {
            let x = x.to_dtype(t[0].dtype())?;
            let weight = weight.to_dtype(t[0].dtype())?;
            if group {
                ops::group_norm(&x, 2, &weight, &t[0], 1e-5)
            } else {
                ops::layer_norm(&x, &weight, &t[0], 1e-5)
            }
        });
    }
}

#[test]
fn activations() {
    for activation in [
        Activation::QuickGelu,
        Activation::Gelu,
        Activation::Relu,
        Activation::Silu,
    ] {
        check(&format!("{activation:?}"), &[&[4, 9]], |t| {
            activation.forward(&t[0])
        });
    }
    check("geglu", &[&[2, 3, 8]], |t| ops::geglu(&t[0]));
    check("softmax", &[&[3, 7]], |t| ops::softmax(&t[0]));
}

#[test]
fn attention_of_all_kinds() {
    for (mask, queries) in [(AttentionMask::None, 4), (AttentionMask::Causal, 5)] {
        // No slices, slices of two queries (the last one shorter), of one.
        for bytes in [usize::MAX, 2 * 2 * 3 * 5 * 4, 0] {
            let name = format!("attention {mask:?} {bytes}");
            let q: &[usize] = &[2, 3, queries, 4];
            check(&name, &[q, &[2, 3, 5, 4], &[2, 3, 5, 4]], |t| {
                attention(&t[0], &t[1], &t[2], mask, 0.5, AttentionBudget { bytes })
            });
        }
    }
}

#[test]
fn resizing() {
    for size in [(6, 8), (6, 4), (5, 7), (2, 3), (3, 4)] {
        let shape: &[usize] = &[2, 2, 3, 4];
        check(&format!("bicubic {size:?}"), &[shape], |t| {
            resize_bicubic(&t[0], size)
        });
        check(&format!("bilinear {size:?}"), &[shape], |t| {
            resize_bilinear(&t[0], size)
        });
        check(&format!("nearest {size:?}"), &[shape], |t| {
            upsample_nearest(&t[0], size)
        });
        // A skip connection: two gradients flow into the same map.
        check(&format!("nearest and skip {size:?}"), &[shape], |t| {
            let up = upsample_nearest(&t[0], size)?.flatten_all()?;
            Tensor::cat(&[&up, &t[0].sqr()?.flatten_all()?], 0)
        });
    }
}

/// Hands out tensors, tracked ones too, under the names of a layer's parameters.
struct Named(BTreeMap<&'static str, Tensor>);

impl TensorSource for Named {
    fn names(&self) -> Vec<String> {
        self.0.keys().map(|name| (*name).to_owned()).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.get(name).map(|t| t.dims().to_vec())
    }

    fn load(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        Ok(self.0[name].clone())
    }

    fn origin(&self) -> String {
        "a test".into()
    }
}

/// Checks a layer: its input is the first tensor, its parameters are the others.
fn check_layer<L>(
    name: &str,
    input: &[usize],
    parameters: &[(&'static str, &[usize])],
    load: impl Fn(&Params) -> Result<L>,
    forward: impl Fn(&L, &Tensor) -> Result<Tensor>,
) {
    let mut shapes = vec![input];
    shapes.extend(parameters.iter().map(|(_, shape)| *shape));
    check(name, &shapes, |t| {
        let named = parameters.iter().zip(&t[1..]);
        let named = named.map(|((name, _), t)| (*name, t.clone())).collect();
        let params = Params::new(Arc::new(Named(named)), t[0].dtype(), &Device::Cpu);
        let layer = load(&params)?;
        params
            .finish(name, Default::default())
            .expect("the parameters are the layer's");
        forward(&layer, &t[0])
    });
}

#[test]
fn layers() {
    check_layer(
        "Linear",
        &[2, 3],
        &[("weight", &[4, 3]), ("bias", &[4])],
        |p| Linear::load(p, 3, 4),
        Linear::forward,
    );
    check_layer(
        "Conv2d",
        &[1, 2, 4, 5],
        &[("weight", &[3, 2, 3, 3]), ("bias", &[3])],
        |p| Conv2d::load(p, 2, 3, ConvOptions::SAME_3X3),
        Conv2d::forward,
    );
    check_layer(
        "ConvTranspose2d",
        &[2, 3, 2, 4],
        &[("weight", &[3, 2, 2, 2]), ("bias", &[2])],
        |p| ConvTranspose2d::load(p, 3, 2, 2),
        ConvTranspose2d::forward,
    );
    check_layer(
        "LayerNorm",
        &[3, 5],
        &[("weight", &[5]), ("bias", &[5])],
        |p| LayerNorm::load(p, 5, 1e-5),
        LayerNorm::forward,
    );
    check_layer(
        "GroupNorm",
        &[2, 4, 3, 3],
        &[("weight", &[4]), ("bias", &[4])],
        |p| GroupNorm::load(p, 2, 4, 1e-5),
        GroupNorm::forward,
    );
    check_layer(
        "MultiHeadAttention",
        &[2, 3, 4],
        &[
            ("q_proj.weight", &[4, 4]),
            ("q_proj.bias", &[4]),
            ("k_proj.weight", &[4, 4]),
            ("v_proj.weight", &[4, 4]),
            ("v_proj.bias", &[4]),
            ("out_proj.weight", &[4, 4]),
            ("out_proj.bias", &[4]),
        ],
        |p| {
            let with_bias = |name| Linear::load(&p.pp(name), 4, 4);
            // A bias of the keys changes all scores of a query alike: its gradient is zero, and
            // rounding would be compared with rounding.
            let k = Linear::load_no_bias(&p.pp("k_proj"), 4, 4)?;
            let qkv = [with_bias("q_proj")?, k, with_bias("v_proj")?];
            MultiHeadAttention::new(qkv, with_bias("out_proj")?, (4, 2), p)
        },
        |layer, x| layer.forward(x, x, AttentionMask::Causal),
    );
    // Two rows are looked up twice, and one never.
    let indices = Tensor::new(&[[0u32, 3, 3], [1, 0, 4]], &Device::Cpu).unwrap();
    check("Embedding", &[&[6, 2]], |t| {
        let source = Named([("weight", t[0].clone())].into());
        let params = Params::new(Arc::new(source), t[0].dtype(), &Device::Cpu);
        Embedding::load(&params, 6, 2)?.forward(&indices)
    });
}
