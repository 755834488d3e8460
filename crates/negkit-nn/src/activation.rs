//! Activation functions, by the names that configurations give them.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use negkit_kernels::Function;

use crate::ops;

/// An activation function, as `hidden_act` or `act_fn` of a published `config.json` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`: OpenAI's CLIP.
    QuickGelu,
    /// `x * Phi(x)` with the exact error function: PyTorch's `gelu`, open_clip's default.
    Gelu,
    /// `max(x, 0)`.
    Relu,
    /// `x * sigmoid(x)`.
    #[serde(alias = "swish")]
    Silu,
}

impl Activation {
    /// Applies the function to every element of `x`, of any shape.
    ///
    /// # Errors
    /// When the device fails.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::QuickGelu => ops::quick_gelu(x),
            Self::Gelu => ops::gelu_erf(x),
            Self::Relu => ops::relu(x),
            Self::Silu => ops::silu(x),
        }
    }

    /// The same for the kernels.
    pub(crate) fn function(self) -> Function {
        match self {
            Self::QuickGelu => Function::QuickGelu,
            Self::Gelu => Function::GeluErf,
            Self::Relu => Function::Relu,
            Self::Silu => Function::Silu,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    #[test]
    fn no_activation_swallows_nan() {
        let x = Tensor::new(&[f32::NAN, 1., -1.], &Device::Cpu).unwrap();
        for activation in [
            Activation::QuickGelu,
            Activation::Gelu,
            Activation::Relu,
            Activation::Silu,
        ] {
            let y: Vec<f32> = activation.forward(&x).unwrap().to_vec1().unwrap();
            assert!(
                y[0].is_nan() && y[1] > 0. && y[2] <= 0.,
                "{activation:?}: {y:?}"
            );
        }
    }
}
