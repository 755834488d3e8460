//! Our models and operations beside those of candle-transformers and candle-nn, in one run.
//!
//! Both have the same random weights, sizes and allocator, and compute in f32. See
//! `eval/bench/README.md` for how to run it and what came out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/all/peer/mod.rs"]
mod peer;

use std::hint::black_box;
use std::time::Duration;

use candle_core::{D, Module, Result, Tensor};
use candle_nn::ops::softmax_last_dim;
use candle_transformers::models::clip::text_model::Activation as PeerActivation;
use candle_transformers::models::clip::vision_model::{
    ClipVisionConfig as PeerVisionConfig, ClipVisionTransformer,
};
use candle_transformers::models::stable_diffusion::clip as peer_text;
use candle_transformers::models::stable_diffusion::unet_2d::{
    UNet2DConditionModel, UNet2DConditionModelConfig,
};
use candle_transformers::models::stable_diffusion::vae::{AutoEncoderKL, AutoEncoderKLConfig};
use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use negkit_clip::{ClipVisionConfig, ClipVisionTower};
use negkit_diffusion::unet::{UNet, UNetConfig};
use negkit_diffusion::vae::{Vae, VaeConfig, VaeTiling};
use negkit_nn::{AttentionBudget, AttentionMask, attention, ops};
use negkit_text::tower::{ClipTextConfig, ClipTextTower};
use peer::{Weights, normal};

// As in the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One computation, by us and by the peer.
fn compare(
    criterion: &mut Criterion,
    name: &str,
    ours: impl Fn() -> Result<Tensor>,
    peers: impl Fn() -> Result<Tensor>,
) {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_secs(2));
    group.bench_function("ours", |b| b.iter(|| black_box(ours().unwrap())));
    group.bench_function("peer", |b| b.iter(|| black_box(peers().unwrap())));
    group.finish();
}

fn clip_text(criterion: &mut Criterion) {
    let peer_config = peer_text::Config::v1_5();
    let (weights, peer) = Weights::drawn_by(1, |vb| {
        peer_text::ClipTextTransformer::new(vb, &peer_config)
    });
    let config = ClipTextConfig {
        hidden_size: 768,
        intermediate_size: 3072,
        num_attention_heads: 12,
        ..ClipTextConfig::default()
    };
    let ours = weights.load(|params| ClipTextTower::load(params, &config));
    let row: Vec<u32> = (0..77).map(|i| 49406 - 600 * i).collect();
    let ids = Tensor::from_vec(row.clone(), (1, 77), &candle_core::Device::Cpu).unwrap();
    let rows = vec![row.clone(), row];
    compare(
        criterion,
        "CLIP ViT-L-14 text, 2 rows",
        || Ok(ours.forward(&rows)?.last_hidden_state),
        // It takes one row at a time.
        || {
            peer.forward(&ids)?;
            peer.forward(&ids)
        },
    );
}

fn clip_vision(criterion: &mut Criterion) {
    let config = ClipVisionConfig {
        patch_size: 16,
        ..ClipVisionConfig::default()
    };
    let peer_config = PeerVisionConfig {
        embed_dim: config.hidden_size,
        activation: PeerActivation::QuickGelu,
        intermediate_size: config.intermediate_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        projection_dim: config.projection_dim,
        num_channels: config.num_channels,
        image_size: config.image_size,
        patch_size: config.patch_size,
    };
    let (weights, peer) = Weights::drawn_by(2, |vb| {
        vb.get((512, 768), "visual_projection.weight")?;
        ClipVisionTransformer::new(vb.pp("vision_model"), &peer_config)
    });
    let ours = weights.load(|params| ClipVisionTower::load(params, &config));
    let pixels = normal("pixels", (1, 3, 224, 224));
    compare(
        criterion,
        "CLIP ViT-B-16 vision, 1 picture",
        || Ok(ours.forward(&pixels)?.pooled),
        || peer.forward(&pixels),
    );
}

fn unet(criterion: &mut Criterion) {
    const CONTEXT: usize = 768;
    let peer_config = UNet2DConditionModelConfig {
        cross_attention_dim: CONTEXT,
        ..UNet2DConditionModelConfig::default()
    };
    let (weights, peer) = Weights::drawn_by(3, |vb| {
        UNet2DConditionModel::new(vb, 4, 4, false, peer_config)
    });
    let config = UNetConfig {
        cross_attention_dim: CONTEXT,
        ..UNetConfig::default()
    };
    let ours = weights.load(|params| UNet::load(params, &config));
    let sample = normal("sample", (2, 4, 32, 32));
    let states = normal("states", (2, 77, CONTEXT));
    compare(
        criterion,
        "SD-1.5 UNet, 32x32 latents, batch 2",
        || ours.forward(&sample, &[500.], &states),
        || peer.forward(&sample, 500., &states),
    );
}

fn vae(criterion: &mut Criterion) {
    let channels = vec![128, 256, 512, 512];
    let peer_config = AutoEncoderKLConfig {
        block_out_channels: channels.clone(),
        layers_per_block: 2,
        ..AutoEncoderKLConfig::default()
    };
    let (weights, peer) = Weights::drawn_by(4, |vb| AutoEncoderKL::new(vb, 3, 3, peer_config));
    let config = VaeConfig {
        block_out_channels: channels,
        layers_per_block: 2,
        ..VaeConfig::default()
    };
    let ours = weights.load(|params| Vae::load(params, &config));
    let latents = normal("latents", (1, 4, 32, 32));
    compare(
        criterion,
        "SD-1.5 VAE decode, 32x32 latents",
        || ours.decode(&latents, VaeTiling::Off),
        || peer.decode(&latents),
    );
}

/// Operations at the sizes that they have in the UNet at 32x32 latents, batch 2.
fn operations(criterion: &mut Criterion) {
    let tokens = normal("tokens", (2, 1024, 320));
    let (weight, bias) = (normal("weight", (320, 320)), normal("bias", 320));
    let layer = candle_nn::Linear::new(weight.clone(), Some(bias.clone()));
    compare(
        criterion,
        "linear 320 to 320, 2048 tokens",
        || ops::linear(&tokens, &weight, Some(&bias)),
        || layer.forward(&tokens),
    );

    let map = normal("map", (2, 320, 32, 32));
    let kernel = normal("kernel", (320, 320, 3, 3));
    let same = candle_nn::Conv2dConfig {
        padding: 1,
        ..Default::default()
    };
    let layer = candle_nn::Conv2d::new(kernel.clone(), Some(bias.clone()), same);
    compare(
        criterion,
        "conv2d 3x3, 320 channels, 32x32",
        || ops::conv2d(&map, &kernel, Some(&bias), 1, 1),
        || layer.forward(&map),
    );

    let (q, k) = (normal("q", (2, 8, 1024, 40)), normal("k", (2, 8, 1024, 40)));
    let v = normal("v", (2, 8, 1024, 40));
    let scale = 40f64.powf(-0.5);
    let budget = AttentionBudget::default();
    compare(
        criterion,
        "attention, 1024 tokens, 16 heads of 40",
        || attention(&q, &k, &v, AttentionMask::None, scale, budget),
        || {
            let scores = q.matmul(&(k.t()? * scale)?)?;
            softmax_last_dim(&scores)?.matmul(&v)
        },
    );

    let layer = candle_nn::GroupNorm::new(bias.clone(), bias.clone(), 320, 32, 1e-5).unwrap();
    compare(
        criterion,
        "group_norm, 320 channels, 32x32",
        || ops::group_norm(&map, 32, &bias, &bias, 1e-5),
        || layer.forward(&map),
    );
    let layer = candle_nn::LayerNorm::new(bias.clone(), bias.clone(), 1e-5);
    compare(
        criterion,
        "layer_norm, 2048 tokens of 320",
        || ops::layer_norm(&tokens, &bias, &bias, 1e-5),
        || layer.forward(&tokens),
    );
    let wide = normal("wide", (2, 1024, 2560));
    compare(
        criterion,
        "geglu, 2048 tokens of 2560",
        || ops::geglu(&wide),
        // With the exact GELU, as ours; its own UNet has the slower tanh form.
        || {
            let halves = wide.chunk(2, D::Minus1)?;
            &halves[0] * halves[1].gelu_erf()?
        },
    );
    compare(
        criterion,
        "silu, 2x320x32x32",
        || ops::silu(&map),
        || map.silu(),
    );
    compare(
        criterion,
        "quick_gelu, 2x320x32x32",
        || ops::quick_gelu(&map),
        || &map * candle_nn::ops::sigmoid(&(&map * 1.702)?)?,
    );
    let scores = normal("scores", (16, 1024, 1024));
    compare(
        criterion,
        "softmax, 16x1024x1024",
        || ops::softmax(&scores),
        || softmax_last_dim(&scores),
    );
}

criterion_group!(peers, operations, clip_text, clip_vision, unet, vae);
criterion_main!(peers);
