//! The formulas.

use std::fmt;

use serde::Serialize;

use crate::inputs::{Inputs, Request};
use crate::sizes::{LanguageModel, Models};

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// One number of an estimate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// What it is of.
    pub what: String,
    /// The number.
    pub value: f64,
    /// What it counts.
    pub unit: Unit,
    /// How it comes about.
    pub formula: String,
}

/// The lines of an estimate, by part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Name of a part, and its lines.
    pub parts: Vec<(String, Vec<Line>)>,
}

/// Bytes of a number in 16 and in 32 bits.
const HALF: f64 = 2.;
const SINGLE: f64 = 4.;

/// Adds lines to a part.
struct Part(Vec<Line>);

impl Part {
    fn line(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: Unit,
        formula: impl Into<String>,
    ) -> f64 {
        self.0.push(Line {
            what: what.into(),
            value,
            unit,
            formula: formula.into(),
        });
        value
    }
}

impl Estimate {
    /// Computes all of it.
    #[must_use]
    pub fn new(inputs: &Inputs, models: &Models) -> Self {
        let parts = [
            ("Making captions", captions(inputs, models)),
            ("Memory of the servers", servers(inputs, models)),
            ("Fine-tuning", training(inputs, models)),
            ("Disk", disk(inputs, models)),
        ];
        Self {
            parts: parts.map(|(name, lines)| (name.to_owned(), lines)).to_vec(),
        }
    }

    /// A line by its name.
    #[must_use]
    pub fn line(&self, what: &str) -> Option<&Line> {
        let mut lines = self.parts.iter().flat_map(|(_, lines)| lines);
        lines.find(|line| line.what == what)
    }
}

/// Seconds for `count` requests with `extra` tokens of a picture in each.
///
/// Reading a prompt takes two operations a parameter and token, and is bound by arithmetic. Writing
/// goes token by token; of `concurrency` requests at a time, each token needs all parameters and all
/// keys and values to be moved once, and is bound by memory.
fn request_seconds(
    inputs: &Inputs,
    model: &LanguageModel,
    (count, extra): (u64, u64),
    request: Request,
) -> f64 {
    let gpu = &inputs.gpu;
    let (parameters, prompt) = (model.parameters() as f64, (request.prompt + extra) as f64);
    let reading = 2. * parameters * prompt / (gpu.tera_half * 1e12 * gpu.reached);
    let at_once = inputs.concurrency as f64;
    let context = prompt + request.completion as f64;
    let moved = HALF * parameters + at_once * context * model.cache_bytes() as f64;
    let writing =
        request.completion as f64 * moved / at_once / (gpu.tera_bytes * 1e12 * gpu.reached);
    count as f64 * (reading + writing)
}

fn captions(inputs: &Inputs, models: &Models) -> Vec<Line> {
    let mut part = Part(Vec::new());
    let (width, height) = inputs.picture_size;
    let (picture, tiles) = models.verifier.picture_tokens(width, height);
    let gpu = &inputs.gpu;
    let formula = "requests x (2 P x prompt / arithmetic + completion x (2 P + concurrency x context x \
                   KV) / concurrency / memory)";
    let Inputs {
        captions, p1, p2, ..
    } = *inputs;
    let writer = &models.writer;
    part.line(
        "requests",
        (2 * captions + p1 + p2) as f64,
        Unit::Count,
        "P1: captions x (name + look) + kept x write; P2: one each",
    );
    let tokens =
        |count: u64, extra: u64, r: Request| (count * (r.prompt + extra + r.completion)) as f64;
    part.line(
        "tokens of a picture",
        picture as f64,
        Unit::Count,
        format!("{width} x {height} pixels whole and in tiles, LLaVA-1.6"),
    );
    part.line(
        "tokens",
        tokens(captions, 0, inputs.object)
            + tokens(captions, picture, inputs.look)
            + tokens(p1, 0, inputs.absence)
            + tokens(p2, 0, inputs.denial),
        Unit::Count,
        "requests x (prompt + picture + completion)",
    );
    let named = request_seconds(inputs, writer, (captions, 0), inputs.object);
    part.line("P1: naming objects", named, Unit::Seconds, formula);
    let looked = request_seconds(
        inputs,
        &models.verifier.text_config,
        (captions, picture),
        inputs.look,
    );
    let tower = 2.
        * (captions * tiles) as f64
        * models.verifier.vision_config.parameters() as f64
        * models.verifier.vision_config.patches() as f64
        / (gpu.tera_half * 1e12 * gpu.reached);
    part.line(
        "P1: looking for them",
        looked + tower,
        Unit::Seconds,
        format!("the same, and {tiles} runs of the vision tower: 2 P x patches / arithmetic"),
    );
    let written = request_seconds(inputs, writer, (p1, 0), inputs.absence);
    part.line("P1: writing", written, Unit::Seconds, "as above");
    let denied = request_seconds(inputs, writer, (p2, 0), inputs.denial);
    part.line("P2: writing", denied, Unit::Seconds, "as above");
    part.line(
        "captions, one GPU after the other",
        named + looked + tower + written + denied,
        Unit::Seconds,
        "sum",
    );
    part.0
}

fn servers(inputs: &Inputs, models: &Models) -> Vec<Line> {
    let mut part = Part(Vec::new());
    let (width, height) = inputs.picture_size;
    let (picture, _) = models.verifier.picture_tokens(width, height);
    let at_once = inputs.concurrency as f64;
    let longest = [inputs.object, inputs.absence, inputs.denial];
    let longest = longest.iter().map(|r| r.prompt + r.completion).max();
    let look = inputs.look.prompt + picture + inputs.look.completion;
    for (who, parameters, model, context) in [
        (
            "writer",
            models.writer.parameters(),
            &models.writer,
            longest.unwrap_or_default(),
        ),
        (
            "verifier",
            models.verifier.parameters(),
            &models.verifier.text_config,
            look,
        ),
    ] {
        let weights = HALF * parameters as f64;
        part.line(
            format!("{who}: weights"),
            weights,
            Unit::Bytes,
            format!("2 bytes x {parameters} parameters"),
        );
        let cache = at_once * context as f64 * model.cache_bytes() as f64;
        part.line(
            format!("{who}: keys and values"),
            cache,
            Unit::Bytes,
            format!(
                "{at_once} requests x {context} tokens x {} bytes (2 x 2 x layers x key width)",
                model.cache_bytes()
            ),
        );
        part.line(format!("{who}: both"), weights + cache, Unit::Bytes, "sum");
    }
    part.0
}

fn training(inputs: &Inputs, models: &Models) -> Vec<Line> {
    let mut part = Part(Vec::new());
    let clip = &models.clip;
    let text = &clip.text_config;
    let gpu = &inputs.gpu;
    let trained_on = ((inputs.p1 + inputs.p2) as f64 * inputs.trained_share).floor();
    let steps = (trained_on / inputs.batch as f64).ceil() * inputs.epochs as f64;
    part.line(
        "steps",
        steps,
        Unit::Count,
        format!(
            "{} epochs x ceil({trained_on} captions / {})",
            inputs.epochs, inputs.batch
        ),
    );
    part.line(
        "parameters trained",
        clip.trained() as f64,
        Unit::Count,
        "text side without ln_final, and the temperature",
    );
    let single = gpu.tera_single * 1e12 * gpu.reached;
    let (tokens, hidden) = (inputs.tokens as f64, text.hidden_size as f64);
    let attention = 4. * tokens * tokens * hidden * text.num_hidden_layers as f64;
    let forward = 2. * text.layer_parameters() as f64 * tokens + attention;
    let pass =
        2. * clip.vision_config.parameters() as f64 * (clip.vision_config.patches() + 1) as f64;
    part.line(
        "picture features, once",
        inputs.pictures as f64 * pass / single,
        Unit::Seconds,
        format!(
            "{} pictures x 2 P x patches / arithmetic in f32",
            inputs.pictures
        ),
    );
    // Chunks are run once for the loss and once more for their gradients.
    let passes = if inputs.chunk > 0 && inputs.chunk < inputs.batch {
        4.
    } else {
        3.
    };
    match inputs.step_seconds {
        Some(seconds) => part.line(
            "all steps",
            steps * seconds,
            Unit::Seconds,
            format!("steps x {seconds} s, as measured by `negkit train cost`"),
        ),
        None => part.line(
            "all steps",
            steps * inputs.batch as f64 * passes * forward / single,
            Unit::Seconds,
            format!(
                "steps x batch x {passes} passes x (2 P x tokens + 4 tokens^2 x width x layers) / \
                 arithmetic in f32"
            ),
        ),
    };
    let all = text.parameters() as f64 + text.hidden_size as f64 * clip.projection_dim as f64 + 1.;
    let trained = clip.trained() as f64;
    let weights = SINGLE * (all + 3. * trained);
    part.line(
        "weights, gradients, moments",
        weights,
        Unit::Bytes,
        "4 bytes x (parameters + 3 x trained)",
    );
    // Of a layer: two norms, the block's input, the sum after attention, queries, keys, values, what
    // attention gives and its projection, the second feed-forward layer (10 widths); the first one
    // before and after its activation and the sigmoid in between (3 x 4 widths); and two tables of
    // attention.
    let of_layer = 22. * hidden + 2. * text.num_attention_heads as f64 * tokens;
    let rows = if inputs.chunk > 0 {
        inputs.chunk.min(inputs.batch)
    } else {
        inputs.batch
    };
    let kept = SINGLE * rows as f64 * tokens * of_layer * text.num_hidden_layers as f64;
    part.line(
        "activations",
        kept,
        Unit::Bytes,
        format!(
            "4 bytes x {rows} texts x {tokens} tokens x layers x (22 width + 2 heads x tokens)"
        ),
    );
    part.line(
        "memory of training",
        weights + kept,
        Unit::Bytes,
        "sum; on a CPU activations once a thread",
    );
    part.0
}

fn disk(inputs: &Inputs, models: &Models) -> Vec<Line> {
    let mut part = Part(Vec::new());
    let clip = &models.clip;
    let made = inputs.captions + inputs.p1 + inputs.p2;
    let (parameters, trained) = (clip.parameters() as f64, clip.trained() as f64);
    let models_on_disk = HALF * (models.writer.parameters() + models.verifier.parameters()) as f64;
    let mut sum = 0.;
    for (what, bytes, formula) in [
        (
            "pictures",
            inputs.picture_bytes as f64,
            "train2014, as published".to_owned(),
        ),
        (
            "writer and verifier",
            models_on_disk,
            "2 bytes x parameters".to_owned(),
        ),
        (
            "records and answers",
            (made * inputs.record_bytes) as f64,
            format!("{} bytes x (captions + kept)", inputs.record_bytes),
        ),
        (
            "picture features",
            SINGLE * (inputs.pictures * clip.projection_dim) as f64,
            "4 bytes x pictures x width of the common space".to_owned(),
        ),
        (
            "checkpoint",
            SINGLE * (3. * trained + parameters),
            "4 bytes x (3 x trained + parameters): weights, moments, best".to_owned(),
        ),
        (
            "the encoder, three times",
            3. * SINGLE * parameters,
            "transformers folder, .safetensors, .pth".to_owned(),
        ),
    ] {
        sum += part.line(what, bytes, Unit::Bytes, formula);
    }
    part.line("disk", sum, Unit::Bytes, "sum");
    part.0
}

/// A number with its unit, to three digits.
fn told(value: f64, unit: Unit) -> String {
    let digits = |value: f64| match value {
        v if v >= 100. => format!("{v:.0}"),
        v if v >= 10. => format!("{v:.1}"),
        v => format!("{v:.2}"),
    };
    match unit {
        Unit::Count if value < 1e6 => format!("{value:.0}"),
        Unit::Count if value < 1e9 => format!("{} M", digits(value / 1e6)),
        Unit::Count => format!("{} G", digits(value / 1e9)),
        Unit::Bytes if value < 1e9 => format!("{} MB", digits(value / 1e6)),
        Unit::Bytes => format!("{} GB", digits(value / 1e9)),
        Unit::Seconds if value < 60. => format!("{} s", digits(value)),
        Unit::Seconds if value < 3600. => format!("{} min", digits(value / 60.)),
        Unit::Seconds => format!("{} h", digits(value / 3600.)),
    }
}

impl fmt::Display for Estimate {
    /// A table in Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, lines)) in self.parts.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            writeln!(f, "| {name} | | |\n|---|---:|---|")?;
            for line in lines {
                let value = told(line.value, line.unit);
                writeln!(f, "| {} | {value} | {} |", line.what, line.formula)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn value(inputs: &Inputs, what: &str) -> f64 {
        let models = Models::of_paper("ViT-B/32").unwrap();
        Estimate::new(inputs, &models).line(what).unwrap().value
    }

    /// The paper's run, by hand: 183,200 of 229,000 captions are 358 batches of 512.
    #[test]
    fn the_papers_run_is_counted() {
        let inputs = Inputs::default();
        assert_eq!(value(&inputs, "steps"), 15. * 358.);
        assert_eq!(value(&inputs, "requests"), 2. * 414_113. + 229_000.);
        assert_eq!(value(&inputs, "writer: weights"), 2. * 8_030_261_248.);
        // 12 layers of 3,152,384, embeddings of 49,485 x 512, the projection, the temperature.
        let trained = 12. * 3_152_384. + 49_485. * 512. + 512. * 512. + 1.;
        assert_eq!(value(&inputs, "parameters trained"), trained);
        // 128 KiB a token: 2 bytes x 2 x 32 layers x 8 heads x 128.
        assert_eq!(
            value(&inputs, "writer: keys and values"),
            64. * 222. * 131_072.
        );
    }

    #[test]
    fn times_follow_from_inputs() {
        let inputs = Inputs::default();
        let naming = value(&inputs, "P1: naming objects");
        let parameters = 8_030_261_248.;
        let reading = 2. * parameters * 80. / (0.4 * 312e12);
        let writing = 4. * (2. * parameters + 64. * 84. * 131_072.) / 64. / (0.4 * 2.039e12);
        assert!((naming - 414_113. * (reading + writing)).abs() < 1e-6 * naming);
        let twice = Inputs {
            captions: 2 * inputs.captions,
            ..inputs.clone()
        };
        assert!((value(&twice, "P1: naming objects") - 2. * naming).abs() < 1e-6 * naming);
        let measured = Inputs {
            step_seconds: Some(2.),
            ..inputs
        };
        assert_eq!(value(&measured, "all steps"), 2. * 15. * 358.);
    }

    #[test]
    fn numbers_are_told_with_three_digits() {
        for (value, unit, expected) in [
            (5370., Unit::Count, "5370"),
            (2.5e6, Unit::Count, "2.50 M"),
            (16.06e9, Unit::Bytes, "16.1 GB"),
            (59., Unit::Seconds, "59.0 s"),
            (5400., Unit::Seconds, "1.50 h"),
        ] {
            assert_eq!(told(value, unit), expected);
        }
    }
}
