//! Starting noise that equals PyTorch's, so that a picture can be compared with one made in Python.
//!
//! [`TorchGenerator`] gives the numbers of `torch.Generator("cpu").manual_seed(seed)` followed by
//! `torch.randn(shape, generator=g, dtype=torch.float32)`, draw after draw. Three pieces of ATen are
//! reproduced for that:
//!
//! - the engine, MT19937 (Matsumoto and Nishimura, 1998), seeded as `ATen/core/MT19937RNGEngine.h`
//!   seeds it: the 64-bit seed is kept, but only its low 32 bits reach the state;
//! - `normal_distribution<double>` of `ATen/core/DistributionsHelper.h` for tensors of fewer than 16
//!   elements: Box-Muller in `f64`, whose second value stays in the generator for the next such draw;
//! - `normal_fill` of `ATen/native/cpu/DistributionTemplates.h` for all larger tensors: uniforms
//!   first, then Box-Muller in `f32` on blocks of 8 pairs, and the last 16 elements drawn anew where
//!   the size is no multiple of 16.
//!
//! The second path is what x86 processors with AVX2 run, with the polynomial logarithm, sine and
//! cosine of `ATen/native/cpu/avx_mathfun.h` (from Cephes). Its fused multiply-adds are spelled out
//! here with [`f32::mul_add`], which is exact everywhere, so every machine gives the numbers of
//! PyTorch on AVX2, bit for bit. PyTorch itself gives slightly different ones (by some 1e-6) where it
//! runs without AVX2.
//!
//! Anything that needs noise takes a [`NoiseSource`], which is one generator for the whole batch or a
//! list with one generator per picture, as in diffusers' `randn_tensor`.

use candle_core::{DType, Device, Tensor};

/// Words of state of MT19937.
const STATE_WORDS: usize = 624;
/// Distance of the recurrence of MT19937.
const SHIFT: usize = 397;
/// Tensors of at least this many elements take PyTorch's vectorised path, in blocks of this size.
const BLOCK: usize = 16;
/// Size of the byte tensor that `torch.Generator.get_state()` returns.
const TORCH_STATE_BYTES: usize = 5056;

/// Why noise could not be drawn or a generator not be restored.
#[derive(Debug, thiserror::Error)]
pub enum NoiseError {
    /// The number of elements does not fit into memory.
    #[error(
        "cannot draw noise of shape {shape:?}: it has too many elements for this machine's memory; \
         ask for a smaller picture or batch"
    )]
    TooLarge {
        /// The shape asked for.
        shape: Vec<usize>,
    },
    /// A list of generators does not fit the batch.
    #[error(
        "noise of shape {shape:?} needs one generator, or one per element of its first dimension, \
         but {generators} were given; give as many seeds as there are pictures"
    )]
    GeneratorCount {
        /// How many generators there are.
        generators: usize,
        /// The shape asked for.
        shape: Vec<usize>,
    },
    /// Bytes that are not the state of a generator.
    #[error(
        "not the state of a torch CPU generator: {reason}; pass the bytes that \
         TorchGenerator::state or torch.Generator.get_state() returned, unchanged"
    )]
    InvalidState {
        /// What is wrong with the bytes.
        reason: String,
    },
    /// The numbers could not be brought into a tensor on the device.
    #[error("could not make a tensor of the noise: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Something that gives standard normal noise as a tensor.
///
/// Implemented for one [`TorchGenerator`], which then draws the whole batch in one go, and for slices
/// and vectors of them, one per picture: picture `i` of a batch is then the picture that the seed of
/// generator `i` gives alone. A list of length one acts as the single generator, as in diffusers'
/// `randn_tensor` (`diffusers/utils/torch_utils.py`).
pub trait NoiseSource {
    /// Standard normal noise of `shape` (`[batch, channels, height, width]` for latents).
    ///
    /// The numbers are drawn on the CPU in `f32`, then moved to `device` and converted to `dtype`.
    /// PyTorch 2.13 gives the same for `f16` and `bf16`, except where the size is over 16 and no
    /// multiple of it (latents of odd height and width): there it draws fewer numbers.
    ///
    /// # Errors
    /// [`NoiseError::GeneratorCount`] when a list of generators does not fit `shape[0]`,
    /// [`NoiseError::TooLarge`], or [`NoiseError::Tensor`].
    fn randn(
        &mut self,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, NoiseError>;
}

impl NoiseSource for TorchGenerator {
    fn randn(
        &mut self,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, NoiseError> {
        let values = TorchGenerator::randn(self, shape)?;
        Ok(Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)
    }
}

impl NoiseSource for [TorchGenerator] {
    fn randn(
        &mut self,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, NoiseError> {
        if let [single] = self {
            return NoiseSource::randn(single, shape, dtype, device);
        }
        let picture = match shape.split_first() {
            Some((batch, picture)) if *batch == self.len() && *batch > 0 => picture,
            _ => {
                return Err(NoiseError::GeneratorCount {
                    generators: self.len(),
                    shape: shape.to_vec(),
                });
            }
        };
        let mut values = Vec::new();
        values
            .try_reserve_exact(element_count(shape)?)
            .map_err(|_| too_large(shape))?;
        for generator in self.iter_mut() {
            values.extend(generator.randn(picture)?);
        }
        Ok(Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)
    }
}

impl NoiseSource for Vec<TorchGenerator> {
    fn randn(
        &mut self,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, NoiseError> {
        self.as_mut_slice().randn(shape, dtype, device)
    }
}

/// The stream of random numbers of `torch.Generator("cpu").manual_seed(seed)`.
///
/// Cloning copies the position in the stream: both copies go on with the same numbers.
///
/// ```
/// use negkit_diffusion::noise::TorchGenerator;
///
/// # fn main() -> Result<(), negkit_diffusion::noise::NoiseError> {
/// let mut generator = TorchGenerator::new(0);
/// // torch.randn(2, generator=torch.Generator("cpu").manual_seed(0))
/// assert_eq!(generator.randn(&[2])?, [1.5409961, -0.2934289]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TorchGenerator {
    engine: Mt19937,
    /// Second value of the last Box-Muller pair of the path for few elements.
    next_normal: Option<f64>,
}

impl TorchGenerator {
    /// A generator at the start of the stream of `seed`.
    ///
    /// As in PyTorch, seeds that share their low 32 bits give the same stream.
    pub fn new(seed: u64) -> Self {
        Self {
            engine: Mt19937::new(seed),
            next_normal: None,
        }
    }

    /// One generator per seed: the [`NoiseSource`] for a batch of pictures that each have their own.
    pub fn per_picture(seeds: &[u64]) -> Vec<Self> {
        seeds.iter().copied().map(Self::new).collect()
    }

    /// The seed that the generator was made with, all 64 bits of it.
    pub fn seed(&self) -> u64 {
        self.engine.seed
    }

    /// `torch.randn(shape, generator=self, dtype=torch.float32)`, flattened in row-major order.
    ///
    /// Consumes as much of the stream as PyTorch does, so that consecutive calls agree too. An empty
    /// shape is a scalar (one number); a shape with a zero gives nothing and consumes nothing.
    ///
    /// # Errors
    /// [`NoiseError::TooLarge`] when the elements do not fit into memory.
    pub fn randn(&mut self, shape: &[usize]) -> Result<Vec<f32>, NoiseError> {
        let count = element_count(shape)?;
        let mut values = Vec::new();
        values
            .try_reserve_exact(count)
            .map_err(|_| too_large(shape))?;
        if count < BLOCK {
            values.extend((0..count).map(|_| self.next_normal() as f32));
        } else {
            values.extend((0..count).map(|_| self.engine.uniform_f32()));
            let (blocks, rest) = values.as_chunks_mut::<BLOCK>();
            blocks.iter_mut().for_each(box_muller_block);
            if !rest.is_empty() {
                self.redraw_last_block(&mut values);
            }
        }
        Ok(values)
    }

    /// Overwrites the last 16 values with newly drawn ones, as `normal_fill` does for sizes that are
    /// no multiple of 16.
    fn redraw_last_block(&mut self, values: &mut [f32]) {
        if let Some(last) = values.last_chunk_mut::<BLOCK>() {
            for value in last.iter_mut() {
                *value = self.engine.uniform_f32();
            }
            box_muller_block(last);
        }
    }

    /// One value of ATen's `normal_distribution<double>(0, 1)`.
    fn next_normal(&mut self) -> f64 {
        if let Some(value) = self.next_normal.take() {
            return value;
        }
        let u1 = self.engine.uniform_f64();
        let u2 = self.engine.uniform_f64();
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let theta = 2.0 * std::f64::consts::PI * u1;
        self.next_normal = Some(radius * theta.sin());
        radius * theta.cos()
    }

    /// The position in the stream, in the bytes that `torch.Generator.get_state()` gives for it.
    ///
    /// 5,056 bytes: PyTorch's `CPUGeneratorImplState` (`ATen/CPUGeneratorImpl.cpp`), little-endian. A
    /// run that was saved with them goes on with the same numbers, here or in Python.
    pub fn state(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TORCH_STATE_BYTES);
        let engine = &self.engine;
        bytes.extend_from_slice(&engine.seed.to_le_bytes());
        bytes.extend_from_slice(&engine.left.to_le_bytes());
        let seeded = 1u32;
        bytes.extend_from_slice(&seeded.to_le_bytes());
        bytes.extend_from_slice(&u64::from(engine.next).to_le_bytes());
        for word in &engine.words {
            bytes.extend_from_slice(&u64::from(*word).to_le_bytes());
        }
        let unused_normal_x = 0f64;
        bytes.extend_from_slice(&unused_normal_x.to_le_bytes());
        bytes.extend_from_slice(&self.next_normal.unwrap_or(0.0).to_le_bytes());
        let unused_normal_rho = 0f64;
        bytes.extend_from_slice(&unused_normal_rho.to_le_bytes());
        bytes.extend_from_slice(&u32::from(self.next_normal.is_some()).to_le_bytes());
        // Alignment, then the f32 counterpart of the cached value, which the CPU never fills.
        bytes.resize(TORCH_STATE_BYTES, 0);
        bytes
    }

    /// The generator whose [`state`](Self::state), or `torch.Generator.get_state()`, is `bytes`.
    ///
    /// # Errors
    /// [`NoiseError::InvalidState`] when the length or a field is not what PyTorch writes.
    pub fn from_state(bytes: &[u8]) -> Result<Self, NoiseError> {
        let mut fields = StateReader::new(bytes)?;
        let seed = fields.u64()?;
        let left = fields.u32()?;
        let seeded = fields.u32()?;
        let next = fields.u64()?;
        let mut words = [0u32; STATE_WORDS];
        for word in &mut words {
            *word = u32::try_from(fields.u64()?)
                .map_err(|_| invalid_state("a state word has more than 32 bits"))?;
        }
        let _unused_normal_x = fields.u64()?;
        let normal = f64::from_bits(fields.u64()?);
        let _unused_normal_rho = fields.u64()?;
        let normal_is_valid = fields.u32()? != 0;

        // A fresh state has left = 1 and next = 0; later ones count down and up in step.
        let consistent = match (left, next) {
            (1, 0) => true,
            (left @ 1..=624, next @ 1..=624) => next + u64::from(left) == 625,
            _ => false,
        };
        if seeded != 1 || !consistent {
            return Err(invalid_state(format!(
                "its counters are seeded = {seeded}, left = {left}, next = {next}"
            )));
        }
        if normal_is_valid && !normal.is_finite() {
            return Err(invalid_state("its cached normal value is not finite"));
        }
        Ok(Self {
            engine: Mt19937 {
                seed,
                left,
                next: next as u32,
                words,
            },
            next_normal: normal_is_valid.then_some(normal),
        })
    }
}

fn element_count(shape: &[usize]) -> Result<usize, NoiseError> {
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1usize, |count, size| count.checked_mul(*size))
        .ok_or_else(|| too_large(shape))
}

fn too_large(shape: &[usize]) -> NoiseError {
    NoiseError::TooLarge {
        shape: shape.to_vec(),
    }
}

fn invalid_state(reason: impl Into<String>) -> NoiseError {
    NoiseError::InvalidState {
        reason: reason.into(),
    }
}

/// Reads the little-endian fields of a saved state one after the other.
struct StateReader<'a> {
    rest: &'a [u8],
}

impl<'a> StateReader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, NoiseError> {
        if bytes.len() != TORCH_STATE_BYTES {
            return Err(invalid_state(format!(
                "it has {} bytes instead of {TORCH_STATE_BYTES}",
                bytes.len()
            )));
        }
        Ok(Self { rest: bytes })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], NoiseError> {
        let (field, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| invalid_state("it ends too early"))?;
        self.rest = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, NoiseError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, NoiseError> {
        Ok(u64::from_le_bytes(self.take()?))
    }
}

/// The Mersenne twister with the counters of ATen's `mt19937_data_pod`, so that states can be
/// exchanged with PyTorch.
#[derive(Debug, Clone, PartialEq)]
struct Mt19937 {
    seed: u64,
    /// One more than the number of outputs left in `words`.
    left: u32,
    /// Index into `words` of the next output.
    next: u32,
    words: [u32; STATE_WORDS],
}

impl Mt19937 {
    fn new(seed: u64) -> Self {
        let mut words = [0u32; STATE_WORDS];
        let mut previous = seed as u32;
        words[0] = previous;
        for (index, word) in (1u32..).zip(words[1..].iter_mut()) {
            previous = 1_812_433_253u32
                .wrapping_mul(previous ^ (previous >> 30))
                .wrapping_add(index);
            *word = previous;
        }
        Self {
            seed,
            left: 1,
            next: 0,
            words,
        }
    }

    /// Replaces all words by the next 624 of the recurrence.
    fn refill(&mut self) {
        for index in 0..STATE_WORDS {
            let following = self.words[(index + 1) % STATE_WORDS];
            let mixed = (self.words[index] & 0x8000_0000) | (following & 0x7fff_ffff);
            let twist = if following & 1 == 1 { 0x9908_b0df } else { 0 };
            self.words[index] = self.words[(index + SHIFT) % STATE_WORDS] ^ (mixed >> 1) ^ twist;
        }
        self.left = STATE_WORDS as u32;
        self.next = 0;
    }

    fn next_u32(&mut self) -> u32 {
        self.left -= 1;
        if self.left == 0 {
            self.refill();
        }
        let mut word = self.words[self.next as usize];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// ATen's `random64`: the first output is the high half.
    fn next_u64(&mut self) -> u64 {
        let high = u64::from(self.next_u32());
        let low = u64::from(self.next_u32());
        (high << 32) | low
    }

    /// Uniform in [0, 1) on a grid of 2^-24 (`transformation::uniform_real<float>`).
    fn uniform_f32(&mut self) -> f32 {
        (self.next_u32() & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [0, 1) on a grid of 2^-53 (`transformation::uniform_real<double>`).
    fn uniform_f64(&mut self) -> f64 {
        (self.next_u64() & ((1 << 53) - 1)) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }
}

/// `NormalFill16<float>` of ATen: eight radii from the first half, eight angles from the second.
fn box_muller_block(block: &mut [f32; BLOCK]) {
    let (radii, angles) = block.split_at_mut(BLOCK / 2);
    for (first, second) in radii.iter_mut().zip(angles) {
        // [0, 1) -> (0, 1], for the logarithm.
        let radius = (-2.0 * ln(1.0 - *first)).sqrt();
        let (sine, cosine) = sin_cos(std::f32::consts::TAU * *second);
        *first = radius * cosine;
        *second = radius * sine;
    }
}

/// `log256_ps` of `avx_mathfun.h` for one positive, normal number (the Cephes function `logf`).
fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 23) as i32 - 126) as f32;
    let mut mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    if mantissa < std::f32::consts::FRAC_1_SQRT_2 {
        exponent -= 1.0;
        mantissa = (mantissa - 1.0) + mantissa;
    } else {
        mantissa -= 1.0;
    }
    let x = mantissa;
    let square = x * x;
    let polynomial = [
        -1.151_461e-1,
        1.167_699_84e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_4e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ]
    .iter()
    .fold(7.037_683_6e-2f32, |sum, coefficient| {
        sum.mul_add(x, *coefficient)
    });
    let tail = (polynomial * x).mul_add(square, exponent * -2.121_944_4e-4);
    let tail = square.mul_add(-0.5, tail);
    exponent.mul_add(0.693_359_4, x + tail)
}

/// `sincos256_ps` of `avx_mathfun.h` for one number that is not negative (Cephes `sinf`, `cosf`).
fn sin_cos(x: f32) -> (f32, f32) {
    // The octant, rounded up to an even number.
    let octant = ((x * 1.273_239_5) as i32 + 1) & !1;
    let y = octant as f32;
    // x - octant * pi / 4 with pi / 4 in three parts.
    let reduced = y.mul_add(-0.785_156_25, x);
    let reduced = y.mul_add(-2.418_756_5e-4, reduced);
    let reduced = y.mul_add(-3.774_895e-8, reduced);
    let square = reduced * reduced;

    let cosine = 2.443_315_7e-5f32
        .mul_add(square, -1.388_731_6e-3)
        .mul_add(square, 4.166_664_6e-2);
    let cosine = (cosine * square).mul_add(square, -(square * 0.5)) + 1.0;
    let sine = (-1.951_529_6e-4f32)
        .mul_add(square, 8.332_161e-3)
        .mul_add(square, -1.666_665_5e-1);
    let sine = (sine * square).mul_add(reduced, reduced);

    let (sine, cosine) = if octant & 2 == 0 {
        (sine, cosine)
    } else {
        (cosine, sine)
    };
    let sine_is_negative = octant & 4 != 0;
    let cosine_is_negative = (octant - 2) & 4 == 0;
    (
        if sine_is_negative { -sine } else { sine },
        if cosine_is_negative { -cosine } else { cosine },
    )
}
