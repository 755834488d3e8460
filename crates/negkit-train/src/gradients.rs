//! Loss and gradients of a step, of the whole batch at once or part by part.
//!
//! Small models are bound by memory, not by arithmetic: the values between the layers of a whole
//! batch come from main memory and go back there with every operation. Those of a part stay in a
//! core's cache, and cores that each have parts of their own never wait for each other inside an
//! operation.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{JointLoss, Task, TrainError};

/// What one step is computed by.
pub(crate) struct Workers {
    /// One thread each.
    pools: Vec<ThreadPool>,
    variables: Vec<(String, Var)>,
    /// Whether parts of a joint loss are embedded twice; see [`TrainSettings::recompute`].
    ///
    /// [`TrainSettings::recompute`]: crate::TrainSettings::recompute
    recompute: bool,
}

/// A batch's loss with all gradients.
pub(crate) struct Computed {
    pub(crate) loss: f64,
    pub(crate) metrics: Vec<(&'static str, f64)>,
    pub(crate) gradients: GradStore,
}

impl Workers {
    /// Workers for `parts` parts of every batch.
    pub(crate) fn new(
        parts: usize,
        recompute: bool,
        variables: Vec<(String, Var)>,
    ) -> Result<Self, TrainError> {
        // One part fills a GPU; a second one at the same time would only take memory.
        let on_cpu = variables.iter().all(|(_, var)| var.device().is_cpu());
        let count = match on_cpu {
            true => parts.min(rayon::current_num_threads()),
            false => 1,
        };
        let pool = |_| ThreadPoolBuilder::new().num_threads(1).build();
        let pools = match parts {
            0 | 1 => Vec::new(),
            _ => (0..count)
                .map(pool)
                .collect::<Result<_, _>>()
                .map_err(TrainError::other)?,
        };
        Ok(Self {
            pools,
            variables,
            recompute,
        })
    }

    /// The loss of a batch from its parts: the mean of theirs, or their joint one. Sums are taken in
    /// an order that depends on the number of workers and of parts alone.
    pub(crate) fn compute<T: Task>(
        &self,
        task: &T,
        parts: Vec<T::Batch>,
    ) -> Result<Computed, TrainError> {
        let count = parts.len();
        if self.pools.is_empty() || count < 2 {
            let computed = parts.into_iter().map(|part| one(task, part, 1));
            return self.sum(computed)?.ok_or_else(no_parts);
        }
        if let Some(joint) = task.joint() {
            return self.compute_joint(joint, parts);
        }
        let sums = self.share(parts, |share| {
            self.sum(share.into_iter().map(|(_, part)| one(task, part, count)))
        })?;
        self.sum(sums.into_iter().flatten().map(Ok))?
            .ok_or_else(no_parts)
    }

    fn compute_joint<B: Send>(
        &self,
        joint: &dyn JointLoss<B>,
        parts: Vec<B>,
    ) -> Result<Computed, TrainError> {
        let embedded = self.share(parts, |share| {
            let share = share.into_iter();
            share
                .map(|(i, part)| Part::embed(joint, i, part, self.recompute))
                .collect::<Result<Vec<_>, TrainError>>()
        })?;
        let mut embedded: Vec<Part<B>> = embedded.into_iter().flatten().collect();
        embedded.sort_unstable_by_key(|part| part.number);
        let kinds = embedded.first().map_or(0, |part| part.tensors.len());
        let leaves = (0..kinds)
            .map(|kind| {
                let parts = embedded.iter().map(|part| part.tensors[kind].detach());
                Ok(Var::from_tensor(&Tensor::cat(
                    &parts.collect::<Vec<_>>(),
                    0,
                )?)?)
            })
            .collect::<Result<Vec<Var>, TrainError>>()?;
        let whole: Vec<Tensor> = leaves.iter().map(|leaf| leaf.as_tensor().clone()).collect();
        let computed = joint.loss(&whole)?;
        let mut gradients = computed.loss.backward()?;
        let mut of_leaves: Vec<Rows> = leaves
            .iter()
            .map(|leaf| Rows {
                gradient: gradients.remove(leaf),
                taken: 0,
            })
            .collect();
        let compared = Computed {
            loss: f64::from(computed.loss.to_scalar::<f32>()?),
            metrics: computed.metrics,
            gradients,
        };
        let parts = embedded
            .into_iter()
            .map(|part| {
                let own = part.tensors.iter().zip(&mut of_leaves);
                let own = own.map(|(tensor, rows)| rows.take(tensor.dim(0)?));
                Ok((own.collect::<Result<Vec<_>, TrainError>>()?, part))
            })
            .collect::<Result<Vec<_>, TrainError>>()?;
        let sums = self.share(parts, |share| {
            let back = share.into_iter().map(|(_, (own, part))| {
                let gradients = back_through(part.tracked(joint)?, own)?;
                Ok(Computed {
                    loss: 0.,
                    metrics: Vec::new(),
                    gradients,
                })
            });
            self.sum(back)
        })?;
        let all = std::iter::once(compared).chain(sums.into_iter().flatten());
        self.sum(all.map(Ok))?.ok_or_else(no_parts)
    }

    /// Has every worker do its share of `parts`, which come with their numbers.
    fn share<I: Send, O: Send>(
        &self,
        parts: Vec<I>,
        work: impl Fn(Vec<(usize, I)>) -> Result<O, TrainError> + Sync,
    ) -> Result<Vec<O>, TrainError> {
        let mut shares: Vec<Vec<(usize, I)>> = self.pools.iter().map(|_| Vec::new()).collect();
        for (i, part) in parts.into_iter().enumerate() {
            shares[i % self.pools.len()].push((i, part));
        }
        let work = &work;
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .pools
                .iter()
                .zip(shares)
                .map(|(pool, share)| scope.spawn(move || pool.install(|| work(share))))
                .collect();
            let done = threads.into_iter().map(|thread| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            done.collect()
        })
    }

    fn sum(
        &self,
        all: impl Iterator<Item = Result<Computed, TrainError>>,
    ) -> Result<Option<Computed>, TrainError> {
        let mut total: Option<Computed> = None;
        for computed in all {
            let computed = computed?;
            total = Some(match total {
                None => computed,
                Some(total) => self.add(total, computed)?,
            });
        }
        Ok(total)
    }

    fn add(&self, mut a: Computed, mut b: Computed) -> Result<Computed, TrainError> {
        a.loss += b.loss;
        for ((_, sum), (_, value)) in a.metrics.iter_mut().zip(b.metrics) {
            *sum += value;
        }
        for (_, variable) in &self.variables {
            let gradient: Option<Tensor> = b.gradients.remove(variable);
            if let Some(gradient) = gradient {
                let gradient = match a.gradients.remove(variable) {
                    Some(sum) => (sum + gradient)?,
                    None => gradient,
                };
                a.gradients.insert(variable, gradient);
            }
        }
        Ok(a)
    }
}

/// A part of a batch with its embeddings.
struct Part<B> {
    number: usize,
    tensors: Vec<Tensor>,
    /// The part itself, where the embeddings forgot how they came to be.
    again: Option<B>,
}

impl<B> Part<B> {
    fn embed(
        joint: &dyn JointLoss<B>,
        number: usize,
        part: B,
        recompute: bool,
    ) -> Result<Self, TrainError> {
        let tensors = joint.embed(&part)?;
        Ok(match recompute {
            true => Self {
                number,
                tensors: tensors.iter().map(Tensor::detach).collect(),
                again: Some(part),
            },
            false => Self {
                number,
                tensors,
                again: None,
            },
        })
    }

    /// The embeddings with all that a gradient goes back through.
    fn tracked(self, joint: &dyn JointLoss<B>) -> Result<Vec<Tensor>, TrainError> {
        match self.again {
            Some(part) => joint.embed(&part),
            None => Ok(self.tensors),
        }
    }
}

/// The gradient of one sort of embeddings, handed out to the parts in their order.
struct Rows {
    gradient: Option<Tensor>,
    taken: usize,
}

impl Rows {
    fn take(&mut self, rows: usize) -> Result<Option<Tensor>, TrainError> {
        let start = self.taken;
        self.taken += rows;
        let own = self.gradient.as_ref().map(|all| all.narrow(0, start, rows));
        Ok(own.transpose()?)
    }
}

/// Gradients of the parameters that a part was embedded with, from those of its embeddings.
fn back_through(
    tensors: Vec<Tensor>,
    gradients: Vec<Option<Tensor>>,
) -> Result<GradStore, TrainError> {
    let mut loss: Option<Tensor> = None;
    for (tensor, gradient) in tensors.iter().zip(gradients) {
        let Some(own) = gradient.filter(|_| tensor.track_op()) else {
            continue;
        };
        // Whose gradient, by the chain rule, is that of the whole.
        let term = (tensor * own)?.sum_all()?;
        loss = Some(match loss {
            Some(loss) => (loss + term)?,
            None => term,
        });
    }
    match loss {
        Some(loss) => Ok(loss.backward()?),
        None => Err(TrainError::Task(
            "has no embedding that depends on a parameter".to_owned(),
        )),
    }
}

/// The share of one of `count` parts in the mean over all.
fn one<T: Task>(task: &T, part: T::Batch, count: usize) -> Result<Computed, TrainError> {
    let share = 1. / count as f64;
    let computed = task.loss(part)?;
    let loss = match count {
        1 => computed.loss,
        _ => (computed.loss * share)?,
    };
    let value = f64::from(loss.to_scalar::<f32>()?);
    let metrics = computed.metrics.into_iter();
    Ok(Computed {
        loss: value,
        metrics: metrics.map(|(name, value)| (name, value * share)).collect(),
        // Of a loss that is no number there is nothing to be learned.
        gradients: loss.backward()?,
    })
}

fn no_parts() -> TrainError {
    TrainError::Task("split a batch into no parts".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::{ParamStore, StepLoss};

    /// Least squares of rows.
    struct Rows(Var);

    impl Task for Rows {
        type Batch = Tensor;

        fn batch(&self, _: u64) -> Result<Tensor, TrainError> {
            Ok(Tensor::arange(0f32, 24., &Device::Cpu)?.reshape((8, 3))?)
        }

        fn loss(&self, batch: Tensor) -> Result<StepLoss, TrainError> {
            let loss = batch.matmul(self.0.as_tensor())?.sqr()?.mean_all()?;
            let metrics = vec![("rows", batch.dim(0)? as f64)];
            Ok(StepLoss { loss, metrics })
        }

        fn validate(&self) -> Result<Vec<(&'static str, f64)>, TrainError> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn parts_come_to_the_gradient_of_the_whole() {
        let store = ParamStore::random(3, &Device::Cpu);
        store.get("weight", (3, 2)).unwrap();
        let variables = store.trainable();
        let variable = variables[0].1.clone();
        let task = Rows(variable.clone());
        let batch = task.batch(0).unwrap();
        let whole = Workers::new(1, false, variables.clone()).unwrap();
        let whole = whole.compute(&task, vec![batch.clone()]).unwrap();
        let parts = Workers::new(4, false, variables).unwrap();
        let split = (0..4).map(|i| batch.narrow(0, 2 * i, 2).unwrap());
        let split = parts.compute(&task, split.collect()).unwrap();
        assert!((whole.loss - split.loss).abs() < 1e-5 * whole.loss.abs());
        assert_eq!(split.metrics, [("rows", 2.)]);
        let difference =
            whole.gradients.get(&variable).unwrap() - split.gradients.get(&variable).unwrap();
        let difference = difference.unwrap().abs().unwrap().max_all().unwrap();
        let largest = whole.gradients.get(&variable).unwrap().abs().unwrap();
        let largest = largest.max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() <= 1e-5 * largest);
    }

    /// All rows compared with each other, and a parameter that only the comparison has.
    struct Compared {
        weight: Var,
        scale: Var,
    }

    impl Task for Compared {
        type Batch = Tensor;

        fn batch(&self, step: u64) -> Result<Tensor, TrainError> {
            Rows(self.weight.clone()).batch(step)
        }

        fn joint(&self) -> Option<&dyn JointLoss<Tensor>> {
            Some(self)
        }

        fn loss(&self, batch: Tensor) -> Result<StepLoss, TrainError> {
            JointLoss::loss(self, &self.embed(&batch)?)
        }

        fn validate(&self) -> Result<Vec<(&'static str, f64)>, TrainError> {
            Ok(Vec::new())
        }
    }

    impl JointLoss<Tensor> for Compared {
        fn embed(&self, part: &Tensor) -> Result<Vec<Tensor>, TrainError> {
            // The second one depends on no parameter, as a frozen tower's does.
            Ok(vec![(part / 24.)?.matmul(&self.weight)?, part.clone()])
        }

        fn loss(&self, embedded: &[Tensor]) -> Result<StepLoss, TrainError> {
            let products = embedded[0].matmul(&embedded[0].t()?)?;
            let loss = products.broadcast_mul(&self.scale)?.exp()?.mean_all()?;
            Ok(StepLoss {
                loss,
                metrics: vec![("rows", embedded[1].dim(0)? as f64)],
            })
        }
    }

    #[test]
    fn a_joint_loss_has_the_gradient_of_the_whole() {
        let store = ParamStore::random(3, &Device::Cpu);
        store.get("scale", ()).unwrap();
        store.get("weight", (3, 2)).unwrap();
        let variables = store.trainable();
        let [scale, weight] = [0, 1].map(|i| variables[i].1.clone());
        scale
            .set(&Tensor::new(0.5f32, &Device::Cpu).unwrap())
            .unwrap();
        let task = Compared { weight, scale };
        let batch = task.batch(0).unwrap();
        let whole = Workers::new(1, false, variables.clone()).unwrap();
        let whole = whole.compute(&task, vec![batch.clone()]).unwrap();
        // Parts of several sizes, kept in memory and embedded anew.
        for recompute in [false, true] {
            let parts = Workers::new(3, recompute, variables.clone()).unwrap();
            let split = [(0, 3), (3, 4), (7, 1)];
            let split = split.map(|(start, rows)| batch.narrow(0, start, rows).unwrap());
            let split = parts.compute(&task, split.to_vec()).unwrap();
            assert!((whole.loss - split.loss).abs() < 1e-6 * whole.loss.abs());
            assert_eq!(split.metrics, [("rows", 8.)]);
            for (name, variable) in &variables {
                let values = |of: &Computed| -> Vec<f32> {
                    let gradient = of.gradients.get(variable).unwrap();
                    gradient.flatten_all().unwrap().to_vec1().unwrap()
                };
                for (a, b) in values(&whole).iter().zip(values(&split)) {
                    assert!((a - b).abs() <= 1e-5 * a.abs(), "{name}: {a} and {b}");
                }
            }
        }
    }
}
