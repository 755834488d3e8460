//! What an estimate starts from.

/// What is sent and had in one request, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Sent, the picture excepted.
    pub prompt: u64,
    /// Had.
    pub completion: u64,
}

/// A GPU, by its data sheet, and how much of that is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Operations a second in 16 bits, in 10^12.
    pub tera_half: f64,
    /// Operations a second in f32, in 10^12.
    pub tera_single: f64,
    /// Bytes of memory that are moved a second, in 10^12.
    pub tera_bytes: f64,
    /// The share of both that programs reach.
    pub reached: f64,
}

impl Gpu {
    /// NVIDIA's A100 with 80 GB (data sheet: 312 and 19.5 TFLOP/s, 2.039 TB/s), used at 40 %.
    #[must_use]
    pub fn a100() -> Self {
        Self {
            name: "A100 80 GB".to_owned(),
            tera_half: 312.,
            tera_single: 19.5,
            tera_bytes: 2.039,
            reached: 0.4,
        }
    }
}

/// What there is to do, and with what.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// Pictures of the captions file.
    pub pictures: u64,
    /// Bytes of these pictures.
    pub picture_bytes: u64,
    /// Width and height of a usual picture, in pixels.
    pub picture_size: (u64, u64),
    /// Captions that P1 starts from.
    pub captions: u64,
    /// Captions that P1 keeps: as many are written.
    pub p1: u64,
    /// Captions that P2 makes.
    pub p2: u64,
    /// P1: naming an object.
    pub object: Request,
    /// P1: looking for it.
    pub look: Request,
    /// P1: writing its absence.
    pub absence: Request,
    /// P2: writing a denial.
    pub denial: Request,
    /// Requests that a server works on at a time.
    pub concurrency: u64,
    /// The GPU.
    pub gpu: Gpu,
    /// Share of the captions that is trained on.
    pub trained_share: f64,
    /// Times that every caption is trained on.
    pub epochs: u64,
    /// Pairs of a step.
    pub batch: u64,
    /// Pairs that are run at a time.
    pub chunk: u64,
    /// Tokens of a caption in training: batches are as long as their longest.
    pub tokens: u64,
    /// Seconds of a step, where `negkit train cost` has measured it on the machine.
    pub step_seconds: Option<f64>,
    /// Bytes that are kept of a caption: provenance and answers.
    pub record_bytes: u64,
}

impl Default for Inputs {
    /// The paper's: COCO train2014 (82,783 pictures in 13.5 GB, 414,113 captions), of which P1 keeps
    /// 147,000, 82,000 captions of P2, and its recipe. That P1 went through all captions is an
    /// inference. Tokens are those of prompts with two worked examples.
    fn default() -> Self {
        let request = |prompt, completion| Request { prompt, completion };
        Self {
            pictures: 82_783,
            picture_bytes: 13_510_573_713,
            picture_size: (640, 480),
            captions: 414_113,
            p1: 147_000,
            p2: 82_000,
            object: request(80, 4),
            look: request(60, 2),
            absence: request(190, 20),
            denial: request(200, 22),
            concurrency: 64,
            gpu: Gpu::a100(),
            trained_share: 0.8,
            epochs: 15,
            batch: 512,
            chunk: 32,
            tokens: 40,
            step_seconds: None,
            record_bytes: 3000,
        }
    }
}
