//! Our models beside those of candle-transformers, on the same random weights.
//!
//! The peer is an implementation of its own of the same papers, so agreement to rounding says that
//! both read the architecture in the same way. Names and shapes of the weights are the peer's, and
//! ours must use every one of them.

use candle_core::{DType, Device, IndexOp, Tensor};
use candle_nn::{Module, VarBuilder};
use candle_transformers::models::clip::text_model::{
    Activation as PeerActivation, ClipTextConfig as PeerTextConfig, ClipTextTransformer,
};
use candle_transformers::models::clip::vision_model::{
    ClipVisionConfig as PeerVisionConfig, ClipVisionTransformer,
};
use candle_transformers::models::clip::{ClipConfig as PeerClipConfig, ClipModel};
use candle_transformers::models::stable_diffusion::clip as peer_sd_clip;
use candle_transformers::models::stable_diffusion::unet_2d::{
    BlockConfig, UNet2DConditionModel, UNet2DConditionModelConfig,
};
use candle_transformers::models::stable_diffusion::vae::{AutoEncoderKL, AutoEncoderKLConfig};
use negkit_clip::{ClipVisionConfig, ClipVisionTower};
use negkit_diffusion::unet::{DownBlockType, PerBlock, UNet, UNetConfig, UpBlockType};
use negkit_diffusion::vae::{Vae, VaeConfig, VaeTiling};
use negkit_nn::TensorSource;
use negkit_parity::Difference;
use negkit_text::tower::{ClipTextConfig, ClipTextTower};

use crate::peer::{Weights, normal};

/// Both compute the same in f32 and differ in the order of sums.
const ROUNDING: f64 = 1e-5;
/// The peer's GEGLU has the tanh approximation of GELU where diffusers has the error function: with
/// these weights a difference of 1.9e-4, and nothing else differs (`with_open_gates`).
const TANH_GELU: f64 = 5e-4;

#[track_caller]
fn assert_agrees(what: &str, ours: &Tensor, peers: &Tensor, tolerance: f64) {
    assert_eq!(ours.dims(), peers.dims(), "{what}");
    let difference = Difference::between(ours, peers).unwrap();
    println!(
        "{what:32} {:.1e} of {tolerance:.0e}",
        difference.relative_l2
    );
    // Not `>`: NaN must fail.
    assert!(
        difference.relative_l2 <= tolerance,
        "{what}: {difference:?}, tolerance {tolerance:e}"
    );
}

fn ids_tensor(rows: &[Vec<u32>]) -> Tensor {
    let shape = (rows.len(), rows[0].len());
    Tensor::from_vec(rows.concat(), shape, &Device::Cpu).unwrap()
}

/// `rows` of `length` ids, each with the highest id (the end of text) at another place.
fn token_rows(rows: usize, length: usize, vocab: u32) -> Vec<Vec<u32>> {
    (0..rows)
        .map(|row| {
            let end = length - 1 - 2 * row;
            let mut ids: Vec<u32> = (0..length)
                .map(|i| (i * 31 + row * 17) as u32 % (vocab - 1))
                .collect();
            ids[end] = vocab - 1;
            ids
        })
        .collect()
}

const PROJECTION: usize = 20;

fn text_configs() -> (ClipTextConfig, PeerTextConfig) {
    let ours = ClipTextConfig {
        vocab_size: 99,
        hidden_size: 48,
        intermediate_size: 80,
        projection_dim: PROJECTION,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        max_position_embeddings: 15,
        eos_token_id: 98,
        ..ClipTextConfig::default()
    };
    let peers = PeerTextConfig {
        vocab_size: ours.vocab_size,
        embed_dim: ours.hidden_size,
        // The only one that it has.
        activation: PeerActivation::QuickGelu,
        intermediate_size: ours.intermediate_size,
        max_position_embeddings: ours.max_position_embeddings,
        pad_with: None,
        num_hidden_layers: ours.num_hidden_layers,
        num_attention_heads: ours.num_attention_heads,
        projection_dim: ours.projection_dim,
    };
    (ours, peers)
}

fn vision_configs() -> (ClipVisionConfig, PeerVisionConfig) {
    let ours = ClipVisionConfig {
        hidden_size: 36,
        intermediate_size: 60,
        projection_dim: PROJECTION,
        num_hidden_layers: 3,
        num_attention_heads: 3,
        image_size: 35,
        patch_size: 7,
        ..ClipVisionConfig::default()
    };
    let peers = PeerVisionConfig {
        embed_dim: ours.hidden_size,
        activation: PeerActivation::QuickGelu,
        intermediate_size: ours.intermediate_size,
        num_hidden_layers: ours.num_hidden_layers,
        num_attention_heads: ours.num_attention_heads,
        projection_dim: ours.projection_dim,
        num_channels: ours.num_channels,
        image_size: ours.image_size,
        patch_size: ours.patch_size,
    };
    (ours, peers)
}

#[test]
fn clip_text_tower() {
    let (config, peer_config) = text_configs();
    let (weights, peer) = Weights::drawn_by(1, |vb| {
        ClipTextTransformer::new(vb.pp("text_model"), &peer_config)
    });
    let tower = weights.load(|params| ClipTextTower::load(params, &config));
    // The whole context, and rows that are shorter than it.
    for length in [15, 11] {
        let rows = token_rows(3, length, 99);
        let ours = tower.forward(&rows).unwrap();
        let ids = ids_tensor(&rows);
        let states = peer.forward_with_mask(&ids, usize::MAX).unwrap();
        let pooled = peer.forward(&ids).unwrap();
        assert_agrees(
            "text last_hidden_state",
            &ours.last_hidden_state,
            &states,
            ROUNDING,
        );
        assert_agrees("text pooled", &ours.pooled, &pooled, ROUNDING);
        assert!(ours.projected.is_none());
    }
}

#[test]
fn clip_vision_tower() {
    let (config, peer_config) = vision_configs();
    // The peer's tower alone has no projection, which ours requires; `clip_projections` has both.
    let (weights, peer) = Weights::drawn_by(2, |vb| {
        let peer = ClipVisionTransformer::new(vb.pp("vision_model"), &peer_config)?;
        vb.get((PROJECTION, config.hidden_size), "visual_projection.weight")?;
        Ok(peer)
    });
    let tower = weights.load(|params| ClipVisionTower::load(params, &config));
    // Only the size that the position embeddings are made for: the peer does not resize them.
    let pixels = normal("pixels", (2, 3, 35, 35));
    let ours = tower.forward(&pixels).unwrap();
    let peers = peer.output_hidden_states(&pixels).unwrap();
    let (pooled, states) = peers.split_last().unwrap();
    assert_eq!(ours.hidden_states.len(), states.len() + 1);
    for (i, (ours, peers)) in ours.hidden_states[1..].iter().zip(states).enumerate() {
        assert_agrees(&format!("vision layer {i}"), ours, peers, ROUNDING);
    }
    assert_agrees("vision pooled", &ours.pooled, pooled, ROUNDING);
}

#[test]
fn clip_projections() {
    let (text_config, peer_text) = text_configs();
    let (vision_config, peer_vision) = vision_configs();
    let peer_config = PeerClipConfig {
        text_config: peer_text,
        image_size: peer_vision.image_size,
        vision_config: peer_vision,
        logit_scale_init_value: 1.,
    };
    let (weights, peer) = Weights::drawn_by(3, |vb| ClipModel::new(vb, &peer_config));
    // Each tower leaves the other's tensors: here both together must use them all.
    let (text, vision) = weights.load(|params| {
        params.get((), "logit_scale")?;
        Ok((
            ClipTextTower::load(params, &text_config)?,
            ClipVisionTower::load(params, &vision_config)?,
        ))
    });
    let rows = token_rows(2, 13, 99);
    let ours = text.forward(&rows).unwrap().projected.unwrap();
    let peers = peer.get_text_features(&ids_tensor(&rows)).unwrap();
    assert_agrees("text_embeds", &ours, &peers, ROUNDING);
    let pixels = normal("pixels", (2, 3, 35, 35));
    let ours = vision.forward(&pixels).unwrap().image_embeds;
    let peers = peer.get_image_features(&pixels).unwrap();
    assert_agrees("image_embeds", &ours, &peers, ROUNDING);
}

/// The peer's text encoder for Stable Diffusion has private sizes, so this is at the published one;
/// it fails for more than one row, so each row is a call of its own.
#[test]
fn stable_diffusion_text_encoder() {
    let peer_config = peer_sd_clip::Config::v1_5();
    let (weights, peer) = Weights::drawn_by(4, |vb| {
        peer_sd_clip::ClipTextTransformer::new(vb, &peer_config)
    });
    let config = ClipTextConfig {
        hidden_size: 768,
        intermediate_size: 3072,
        num_attention_heads: 12,
        ..ClipTextConfig::default()
    };
    let tower = weights.load(|params| ClipTextTower::load(params, &config));
    let rows = token_rows(2, 77, 49408);
    let ours = tower.forward(&rows).unwrap().last_hidden_state;
    for (i, row) in rows.iter().enumerate() {
        let peers = peer
            .forward(&ids_tensor(std::slice::from_ref(row)))
            .unwrap();
        let ours = ours.i(i..=i).unwrap();
        assert_agrees("SD text encoder", &ours, &peers, ROUNDING);
    }
}

/// Widths are multiples of 32, where both agree on 32 groups whatever the peer does with
/// `norm_num_groups`; one layer a block and two blocks keep it small.
fn unet_configs(linear: bool) -> (UNetConfig, UNet2DConditionModelConfig) {
    let ours = UNetConfig {
        block_out_channels: vec![32, 64, 96],
        down_block_types: vec![
            DownBlockType::CrossAttn,
            DownBlockType::CrossAttn,
            DownBlockType::Plain,
        ],
        up_block_types: vec![
            UpBlockType::Plain,
            UpBlockType::CrossAttn,
            UpBlockType::CrossAttn,
        ],
        layers_per_block: 1,
        attention_head_dim: PerBlock::Each(vec![2, 4, 3]),
        cross_attention_dim: 24,
        use_linear_projection: linear,
        ..UNetConfig::default()
    };
    ours.check().unwrap();
    let block = |out_channels, use_cross_attn, attention_head_dim| BlockConfig {
        out_channels,
        use_cross_attn,
        attention_head_dim,
    };
    let peers = UNet2DConditionModelConfig {
        blocks: vec![
            block(32, Some(1), 2),
            block(64, Some(1), 4),
            block(96, None, 3),
        ],
        layers_per_block: ours.layers_per_block,
        cross_attention_dim: ours.cross_attention_dim,
        use_linear_projection: linear,
        ..UNet2DConditionModelConfig::default()
    };
    (ours, peers)
}

#[test]
fn unet() {
    for linear in [false, true] {
        let (config, peer_config) = unet_configs(linear);
        let build =
            |vb: VarBuilder| UNet2DConditionModel::new(vb, 4, 4, false, peer_config.clone());
        let (weights, _) = Weights::drawn_by(5, build);
        for (what, weights, tolerance) in [
            ("UNet", weights.clone(), TANH_GELU),
            ("UNet, GEGLU open", with_open_gates(&weights), ROUNDING),
        ] {
            let ours = weights.load(|params| UNet::load(params, &config));
            let peer = build(weights.var_builder()).unwrap();
            let states = normal("states", (2, 7, 24));
            // The second size does not divide by two twice, on either side. The peer has one time
            // step for the whole batch.
            for (height, width, timestep) in [(8, 12, 981.), (9, 7, 20.)] {
                let sample = normal("sample", (2, 4, height, width));
                let found = ours.forward(&sample, &[timestep], &states).unwrap();
                let expected = peer.forward(&sample, timestep, &states).unwrap();
                assert_agrees(what, &found, &expected, tolerance);
            }
        }
    }
}

/// With all gates of GEGLU at about 12, where every form of GELU is the identity, nothing but
/// rounding may differ.
fn with_open_gates(weights: &Weights) -> Weights {
    let biases = weights.names().into_iter();
    let opened = biases.filter(|name| name.ends_with("ff.net.0.proj.bias"));
    weights.with(opened.map(|name| {
        let bias = weights.get(&name);
        let half = bias.dim(0).unwrap() / 2;
        let value = bias.narrow(0, 0, half).unwrap();
        let gate = (bias.narrow(0, half, half).unwrap() + 12.).unwrap();
        (name, Tensor::cat(&[&value, &gate], 0).unwrap())
    }))
}

fn vae_configs() -> (VaeConfig, AutoEncoderKLConfig) {
    let ours = VaeConfig {
        block_out_channels: vec![32, 64],
        layers_per_block: 1,
        ..VaeConfig::default()
    };
    ours.check().unwrap();
    let peers = AutoEncoderKLConfig {
        block_out_channels: ours.block_out_channels.clone(),
        layers_per_block: ours.layers_per_block,
        ..AutoEncoderKLConfig::default()
    };
    (ours, peers)
}

/// Applies the peer to one picture after the other: the self-attention of its autoencoder reads the
/// wrong values for all but the first of a batch.
fn one_by_one(batch: &Tensor, peer: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Tensor {
    let pictures = (0..batch.dim(0).unwrap()).map(|i| peer(&batch.i(i..=i)?));
    let pictures: candle_core::Result<Vec<Tensor>> = pictures.collect();
    Tensor::cat(&pictures.unwrap(), 0).unwrap()
}

#[test]
fn vae_decode() {
    let (config, peer_config) = vae_configs();
    let (weights, peer) = Weights::drawn_by(6, |vb| AutoEncoderKL::new(vb, 3, 3, peer_config));
    let ours = weights.load(|params| Vae::load(params, &config));
    let latents = normal("latents", (2, 4, 5, 8));
    let found = ours.decode(&latents, VaeTiling::Off).unwrap();
    let expected = one_by_one(&latents, |one| peer.decode(one));
    assert_agrees("VAE decode", &found, &expected, ROUNDING);
}

/// The peer keeps mean and variance private and gives samples. A variance of zero makes the sample
/// the mean, and with the rows of the last convolution exchanged that mean is our logarithm of the
/// variance.
#[test]
fn vae_encode() {
    let (config, peer_config) = vae_configs();
    let build = |vb: VarBuilder| AutoEncoderKL::new(vb, 3, 3, peer_config.clone());
    let (weights, _) = Weights::drawn_by(6, build);
    let ours = weights.load(|params| Vae::load(params, &config));
    let pictures = normal("pictures", (2, 3, 10, 16));
    let moments = ours.moments(&pictures).unwrap();
    let no_kernel = Tensor::zeros((4, 8, 1, 1), DType::F32, &Device::Cpu).unwrap();
    let no_variance = Tensor::full(-1e4f32, 4, &Device::Cpu).unwrap();
    for first in [0, 4] {
        let replaced = [("weight", &no_kernel), ("bias", &no_variance)].map(|(part, rest)| {
            let name = format!("quant_conv.{part}");
            let rows = weights.get(&name).narrow(0, first, 4).unwrap();
            (name, Tensor::cat(&[&rows, rest], 0).unwrap())
        });
        let peer = build(weights.with(replaced).var_builder()).unwrap();
        let expected = one_by_one(&pictures, |one| peer.encode(one)?.sample());
        let found = moments.narrow(1, first, 4).unwrap();
        assert_agrees("VAE encode", &found, &expected, ROUNDING);
    }
    let mean = ours.encode(&pictures).unwrap().mean;
    assert_agrees("VAE mean", &mean, &moments.narrow(1, 0, 4).unwrap(), 0.);
}
