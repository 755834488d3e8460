//! What can be trained: one [`Task`](crate::Task) for each kind of model.

pub mod contrastive;
