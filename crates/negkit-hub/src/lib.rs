//! From a model name, a hub id, a folder or a file to local files.
//!
//! A user names a model in one word; the readers of checkpoints want paths. Between them stands
//! [`Hub`]: it reads the word as a [`Location`], chooses by a [`Want`] the files that an engine
//! needs, takes them from the folder of plain copies or from the Hugging Face cache, and fetches
//! what is missing. The result is a [`Resolved`]. Which models have a name, and of which files they
//! consist, is data: `weights/models.json`, read as a [`Table`].
//!
//! ```
//! use negkit_hub::{ClipSize, Error, Hub, HubConfig, Location, ModelKind, Want};
//!
//! # fn main() -> Result<(), Error> {
//! # let folder = std::env::temp_dir().join(format!("negkit-hub-doc-{}", std::process::id()));
//! # let copy = folder.join("weights/negationclip");
//! # std::fs::create_dir_all(&copy).ok();
//! # std::fs::write(copy.join("negationclip_ViT-B32.pth"), b"").ok();
//! // `HubConfig::from_env()` reads HF_HOME, HF_TOKEN, HF_HUB_OFFLINE and the like.
//! let mut config = HubConfig::new(folder.join("cache"), folder.join("weights"));
//! config.offline = true;
//! let hub = Hub::new(config)?;
//!
//! // The engine says which size fits where the user does not.
//! let want = Want::new(ModelKind::TextEncoder).size(ClipSize::VitB32);
//! let found = hub.resolve(&Location::parse("negationclip")?, &want)?;
//! assert!(found.path.ends_with("negationclip/negationclip_ViT-B32.pth"));
//!
//! // What is neither here nor to be fetched is answered with what goes where.
//! let want = Want::new(ModelKind::Diffusion);
//! let message = hub.resolve(&Location::parse("sd-1.4")?, &want).unwrap_err().to_string();
//! assert!(message.contains("unet/diffusion_pytorch_model.safetensors"));
//! assert!(message.contains("CreativeML OpenRAIL-M"));
//! # std::fs::remove_dir_all(&folder).ok();
//! # Ok(())
//! # }
//! ```
//!
//! # Why a client of its own
//! The crate `hf-hub` was looked at first. What is asked for here and it does not do:
//! - 1.0, for files outside its Xet store: continue a broken download (it truncates the partial
//!   file), compare size and hash with what the hub announced, repeat a transfer that breaks in the
//!   middle of a body; and in general heed `Retry-After` or `HF_HUB_OFFLINE`. It also brings an async
//!   runtime, reqwest and the Xet client.
//! - 0.5, blocking: it continues downloads, but compares neither the final size nor a hash, repeats
//!   refusals like faults and without regard to `Retry-After`, has no offline mode, and reads neither
//!   `HF_TOKEN` nor `HF_HUB_CACHE`.
//!
//! What is needed is three kinds of request, over blocking `ureq`.
//!
//! # What holds for a download
//! - Nothing gets into the cache under its own name before its size and its hash (SHA-256 for large
//!   files, git's blob hash for others) agree with what the hub announced, and then by one rename.
//! - The layout, the lock files and the environment variables are `huggingface_hub`'s: Python finds
//!   what this crate fetched, and the other way round.
//! - The token is sent to the configured endpoint (scheme, host and port) and to nobody else, and
//!   is in no error.
#![deny(missing_docs)]

mod cache;
mod client;
mod config;
mod download;
mod error;
mod hub;
mod location;
mod select;
mod table;
mod want;

pub use config::{DEFAULT_ENDPOINT, HubConfig, Token};
pub use error::{Error, PlacedFile, Placement, Why};
pub use hub::{Hub, Resolved, Source};
pub use location::Location;
pub use negkit_http::RetryPolicy;
pub use table::{Alternative, FileGroup, KnownModel, Licence, Table};
pub use want::{ClipSize, ModelKind, Variant, Want};
