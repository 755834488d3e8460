//! The network of mini-vqa.

use candle_core::{Result, Tensor};
use negkit_nn::{
    Activation, AttentionMask, Embedding, LayerNorm, Linear, MultiHeadAttention, Params,
};

use super::config::{MiniVqaConfig, QuestionConfig};
use crate::detector::{DetectorLogits, DetectorModel};

/// Picture encoder, question encoder and classifier.
#[derive(Debug, Clone)]
pub struct MiniVqaModel {
    vision: DetectorModel,
    /// Where every cell is.
    cell_embedding: Embedding,
    picture_norm: LayerNorm,
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<QuestionLayer>,
    final_norm: LayerNorm,
    classifier: Linear,
}

impl MiniVqaModel {
    /// Reads `vision_model.*` (what a mini-detector has), `cell_embedding.weight`,
    /// `picture_norm.*`, `question_model.*` and `classifier.*`.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or the device fails.
    pub fn load(params: &Params, config: &MiniVqaConfig) -> Result<Self> {
        let sizes = &config.question_config;
        let [_, _, seen, _] = config.vision_config.widths;
        let cells = config.vision_config.grid().pow(2);
        let question = params.pp("question_model");
        let embeddings = question.pp("embeddings");
        let table = |name, rows| Embedding::load(&embeddings.pp(name), rows, sizes.hidden_size);
        let layers = question.pp("layers");
        Ok(Self {
            vision: DetectorModel::load(&params.pp("vision_model"), &config.vision_config)?,
            cell_embedding: Embedding::load(&params.pp("cell_embedding"), cells, seen)?,
            picture_norm: LayerNorm::load(&params.pp("picture_norm"), seen, sizes.layer_norm_eps)?,
            token_embedding: table("token_embedding", sizes.vocab_size)?,
            position_embedding: table("position_embedding", sizes.max_position_embeddings)?,
            layers: (0..sizes.num_hidden_layers)
                .map(|i| QuestionLayer::load(&layers.pp(i), sizes, seen))
                .collect::<Result<_>>()?,
            final_norm: LayerNorm::load(
                &question.pp("final_layer_norm"),
                sizes.hidden_size,
                sizes.layer_norm_eps,
            )?,
            classifier: Linear::load(
                &params.pp("classifier"),
                sizes.hidden_size,
                config.answers.len(),
            )?,
        })
    }

    /// What the question encoder looks at: `pixel_values` `[n, 3, side, side]` to `[n, cells, width]`,
    /// row by row, of the width at stride 4.
    ///
    /// # Errors
    /// When shapes do not fit, or the device fails.
    pub fn encode_pictures(&self, pixel_values: &Tensor) -> Result<Tensor> {
        self.cells_of(&self.vision.see(pixel_values)?)
    }

    /// [`MiniVqaModel::encode_pictures`] with the labels that the cells have for it, for training.
    ///
    /// # Errors
    /// As that.
    pub fn encode_and_label(&self, pixel_values: &Tensor) -> Result<(Tensor, DetectorLogits)> {
        let seen = self.vision.see(pixel_values)?;
        Ok((self.cells_of(&seen)?, self.vision.label(&seen)?))
    }

    fn cells_of(&self, seen: &Tensor) -> Result<Tensor> {
        let cells = seen.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let cells = cells.broadcast_add(self.cell_embedding.table())?;
        self.picture_norm.forward(&cells)
    }

    /// Logits of every answer, `[n * q, answers]`, for `q` questions about each of `n` encoded
    /// `pictures` `[n, cells, width]`. `questions` are `n * q` rows of token ids, the
    /// `q` rows of the first picture first.
    ///
    /// # Errors
    /// When the rows are no multiple of the pictures, differ in length or are too long, an id is
    /// outside the vocabulary, or the device fails.
    pub fn answer_logits(&self, pictures: &Tensor, questions: &[Vec<u32>]) -> Result<Tensor> {
        let positions = self.position_embedding.table();
        let (rows, length) = (questions.len(), questions.first().map_or(0, Vec::len));
        let context = positions.dim(0)?;
        if length == 0 || length > context || questions.iter().any(|row| row.len() != length) {
            candle_core::bail!(
                "mini-vqa: expected questions of one length between 1 and {context} tokens, found \
                 lengths {:?}",
                questions.iter().map(Vec::len).collect::<Vec<_>>()
            )
        }
        let n = pictures.dim(0)?;
        if n == 0 || rows % n != 0 {
            candle_core::bail!(
                "mini-vqa: {rows} questions are no multiple of {n} pictures; every picture takes \
                 the same number"
            )
        }
        let ids = Tensor::from_vec(questions.concat(), (rows, length), positions.device())?;
        let mut x = self
            .token_embedding
            .forward(&ids)?
            .broadcast_add(&positions.narrow(0, 0, length)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, pictures)?;
        }
        let first = x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
        self.classifier.forward(&self.final_norm.forward(&first)?)
    }

    /// [`MiniVqaModel::encode_pictures`], then [`MiniVqaModel::answer_logits`].
    ///
    /// # Errors
    /// As these.
    pub fn forward(&self, pixel_values: &Tensor, questions: &[Vec<u32>]) -> Result<Tensor> {
        self.answer_logits(&self.encode_pictures(pixel_values)?, questions)
    }
}

/// A pre-norm layer of self-attention, cross-attention to the picture, and feed-forward.
#[derive(Debug, Clone)]
struct QuestionLayer {
    self_norm: LayerNorm,
    self_attn: MultiHeadAttention,
    cross_norm: LayerNorm,
    cross_attn: MultiHeadAttention,
    mlp_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl QuestionLayer {
    /// `seen` is the width of the picture's tokens.
    fn load(params: &Params, sizes: &QuestionConfig, seen: usize) -> Result<Self> {
        let (width, heads) = (sizes.hidden_size, sizes.num_attention_heads);
        let norm = |name| LayerNorm::load(&params.pp(name), width, sizes.layer_norm_eps);
        let cross = params.pp("cross_attn");
        let project = |name, input| Linear::load(&cross.pp(name), input, width);
        let projections = [
            project("q_proj", width)?,
            project("k_proj", seen)?,
            project("v_proj", seen)?,
        ];
        let mlp = params.pp("mlp");
        Ok(Self {
            self_norm: norm("self_norm")?,
            self_attn: MultiHeadAttention::load(&params.pp("self_attn"), width, heads)?,
            cross_norm: norm("cross_norm")?,
            cross_attn: MultiHeadAttention::new(
                projections,
                project("out_proj", width)?,
                (width, heads),
                params,
            )?,
            mlp_norm: norm("mlp_norm")?,
            fc1: Linear::load(&mlp.pp("fc1"), width, sizes.intermediate_size)?,
            fc2: Linear::load(&mlp.pp("fc2"), sizes.intermediate_size, width)?,
            activation: sizes.hidden_act,
        })
    }

    /// `x` `[n * q, length, hidden]`, `pictures` `[n, tokens, seen]`.
    fn forward(&self, x: &Tensor, pictures: &Tensor) -> Result<Tensor> {
        let normed = self.self_norm.forward(x)?;
        let x = (x + self
            .self_attn
            .forward(&normed, &normed, AttentionMask::None)?)?;
        // All questions about a picture are one long row of queries, so that the picture's keys and
        // values are made once.
        let (rows, length, width) = x.dims3()?;
        let n = pictures.dim(0)?;
        let queries = self
            .cross_norm
            .forward(&x)?
            .reshape((n, rows / n * length, width))?;
        let looked = self
            .cross_attn
            .forward(&queries, pictures, AttentionMask::None)?
            .reshape((rows, length, width))?;
        let x = (x + looked)?;
        let inner = self.fc1.forward(&self.mlp_norm.forward(&x)?)?;
        &x + self.fc2.forward(&self.activation.forward(&inner)?)?
    }
}
