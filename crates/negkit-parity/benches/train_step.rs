//! One training step of a UNet of mini-sd's sizes, forward and backward, in milliseconds, with products in f32 and
//! in bf16: the least of several steps, for other work on the machine only ever adds.
//!
//! `cargo bench -p negkit-parity --bench train_step -- [exact|bf16] [steps]`
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use candle_core::{DType, Device, Result, Shape, Tensor, Var};
use negkit_diffusion::unet::{DownBlockType, PerBlock, UNet, UNetConfig, UpBlockType};
use negkit_nn::{Params, Products, TensorFactory};

// As in the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 64;
const LATENT_CHANNELS: usize = 12;
const SIDE: usize = 8;
const CONTEXT: usize = 32;
const TEXT_WIDTH: usize = 128;

/// Random variables.
struct Variables {
    values: Params,
    made: Mutex<BTreeMap<String, Var>>,
}

impl TensorFactory for Variables {
    fn make(&self, name: &str, shape: &Shape, _: DType, _: &Device) -> Result<Tensor> {
        let var = Var::from_tensor(&self.values.get(shape.clone(), name)?)?;
        let tensor = var.as_tensor().clone();
        self.made.lock().unwrap().insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn origin(&self) -> String {
        "random variables".into()
    }
}

fn config() -> UNetConfig {
    UNetConfig {
        in_channels: LATENT_CHANNELS,
        out_channels: LATENT_CHANNELS,
        block_out_channels: vec![64, 128],
        down_block_types: vec![DownBlockType::CrossAttn; 2],
        up_block_types: vec![UpBlockType::CrossAttn; 2],
        layers_per_block: 2,
        norm_num_groups: 16,
        cross_attention_dim: TEXT_WIDTH,
        attention_head_dim: PerBlock::Each(vec![2, 4]),
        ..UNetConfig::default()
    }
}

fn measure(products: Products, steps: usize) -> Result<()> {
    let device = Device::Cpu;
    let values = Params::random(1, DType::F32, &device);
    let variables = Arc::new(Variables {
        values: values.clone(),
        made: Mutex::default(),
    });
    let params =
        Params::from_factory(variables.clone(), DType::F32, &device).with_products(products);
    let unet = UNet::load(&params, &config())?;
    let map = (BATCH, LATENT_CHANNELS, SIDE, SIDE);
    let normal = |shape: Shape, name: &str| {
        let rows = shape.elem_count();
        values.get((rows, 1), name)?.reshape(shape)
    };
    let sample = normal(map.into(), "sample")?;
    let noise = normal(map.into(), "noise")?;
    let context = normal((BATCH, CONTEXT, TEXT_WIDTH).into(), "context")?;
    let times: Vec<f64> = (0..BATCH).map(|i| (i * 15) as f64).collect();
    let mut least = [f64::INFINITY; 2];
    let mut norm = 0.;
    for _ in 0..steps {
        let start = Instant::now();
        let difference = (unet.forward(&sample, &times, &context)? - &noise)?;
        let loss = difference.sqr()?.mean_all()?;
        let forward = start.elapsed().as_secs_f64();
        let gradients = loss.backward()?;
        let whole = start.elapsed().as_secs_f64();
        for (least, time) in least.iter_mut().zip([forward, whole]) {
            *least = least.min(time);
        }
        norm = 0.;
        for var in variables.made.lock().unwrap().values() {
            let gradient = gradients.get(var).expect("every variable has a gradient");
            norm += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
    }
    let count: usize = variables
        .made
        .lock()
        .unwrap()
        .values()
        .map(|v| v.elem_count())
        .sum();
    println!(
        "{products:?}: {:.0} ms a step, {:.0} ms of it forward; {:.1} M parameters, norm of the \
         gradient {:.6}",
        1e3 * least[1],
        1e3 * least[0],
        count as f64 / 1e6,
        norm.sqrt()
    );
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let steps = arguments.get(1).and_then(|n| n.parse().ok()).unwrap_or(10);
    let wanted = arguments.first().map_or("", String::as_str);
    for (name, products) in [("exact", Products::Exact), ("bf16", Products::Bf16)] {
        if wanted.is_empty() || wanted == name {
            measure(products, steps)?;
        }
    }
    Ok(())
}
