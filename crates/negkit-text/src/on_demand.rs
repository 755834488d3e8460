//! An encoder that need not be in memory all the time.

use negkit_nn::OnDemand;

use crate::TextError;
use crate::encoder::{EncoderInfo, TextEncoder, TextEncoding};

/// A text encoder that [`TextEncoder::release`] takes out of memory, and that is loaded again when it is
/// asked for another encoding.
pub struct OnDemandTextEncoder<E> {
    info: EncoderInfo,
    encoder: OnDemand<E, TextError>,
}

impl<E: TextEncoder> OnDemandTextEncoder<E> {
    /// The encoder that `load` gives, each time the same. It is loaded at once, so that what is wrong
    /// with it shows now.
    ///
    /// # Errors
    /// What `load` fails with.
    pub fn new(
        load: impl Fn() -> Result<E, TextError> + Send + Sync + 'static,
    ) -> Result<Self, TextError> {
        let encoder = OnDemand::new(load);
        let info = encoder.get()?.info().clone();
        Ok(Self { info, encoder })
    }
}

impl<E: TextEncoder> TextEncoder for OnDemandTextEncoder<E> {
    fn encode(&self, prompts: &[&str]) -> Result<TextEncoding, TextError> {
        self.encoder.get()?.encode(prompts)
    }

    fn info(&self) -> &EncoderInfo {
        &self.info
    }

    fn release(&self) {
        self.encoder.release();
    }
}
