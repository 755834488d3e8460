//! Which of the objects in a pickle are the weights.
//!
//! Training scripts wrap the weights in a dictionary next to optimizer state, step counters and
//! arguments. The rule, applied from the root downwards:
//!
//! 1. A module (TorchScript, or a pickled `torch.nn.Module`) is flattened into dotted names.
//! 2. A dictionary with exactly one entry of a name in [`WRAPPERS`] that holds tensors is left for
//!    that entry; what lies beside it (a step counter, averaged weights) is not weights.
//! 3. Otherwise, a dictionary with a tensor among its own entries is the weights; dictionaries nested
//!    in it are flattened into dotted names.
//! 4. Otherwise, a dictionary with exactly one entry that holds tensors, apart from
//!    [`TRAINING_STATE`], is left for that entry.
//! 5. Everything else is an error that lists the choices, and the caller names one.

use std::collections::BTreeMap;

use crate::torch::pickle::{Arena, Id, Tensor, Value};

/// Keys that training scripts put the weights under.
pub(crate) const WRAPPERS: &[&str] = &[
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "params",
    "weights",
];

/// Keys of things that hold tensors but are not weights.
const TRAINING_STATE: &[&str] = &[
    "amp",
    "args",
    "callbacks",
    "config",
    "hparams",
    "hyper_parameters",
    "loops",
    "lr_scheduler",
    "lr_schedulers",
    "optim",
    "optimizer",
    "optimizer_state_dict",
    "optimizer_states",
    "optimizers",
    "rng_state",
    "scaler",
    "scheduler",
];

/// Deepest nesting of dictionaries and modules.
const MAX_DEPTH: usize = 64;
/// Most entries looked at. The same dictionary may be reached along many paths, so the number of
/// paths is not bounded by the size of the file.
const MAX_VISITS: usize = 1 << 19;
/// Longest name of a tensor, in bytes.
const MAX_NAME: usize = 1024;
/// Longest scalar kept as metadata, in bytes.
const MAX_SCALAR: usize = 256;

/// The weights of a pickle.
#[derive(Debug, Default)]
pub(crate) struct StateDict {
    pub tensors: BTreeMap<String, Tensor>,
    /// Scalars found on the way: `epoch`, `global_step` and the like.
    pub metadata: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SelectError {
    NoTensors { found: Vec<String> },
    Ambiguous { choices: Vec<String> },
    NoSuchWrapper { choices: Vec<String> },
    Unsupported { tensor: String, kind: String },
    TooComplex,
}

pub(crate) fn select(
    arena: &Arena,
    root: Id,
    wrapper: Option<&str>,
) -> Result<StateDict, SelectError> {
    let mut walk = Walk { arena, visits: 0 };
    let mut metadata = BTreeMap::new();
    walk.collect_scalars(root, &mut metadata)?;
    let start = match wrapper {
        None => root,
        Some(key) => {
            let choices = walk.holders(root)?;
            match choices.iter().find(|(name, _)| name == key) {
                Some((_, id)) => *id,
                None => {
                    let choices = choices.into_iter().map(|(name, _)| name).collect();
                    return Err(SelectError::NoSuchWrapper { choices });
                }
            }
        }
    };
    let chosen = walk.descend(start)?;
    walk.collect_scalars(chosen, &mut metadata)?;
    let tensors = walk.flatten(chosen)?;
    if tensors.is_empty() {
        let found = walk.describe(root);
        return Err(SelectError::NoTensors { found });
    }
    Ok(StateDict { tensors, metadata })
}

struct Walk<'a> {
    arena: &'a Arena,
    visits: usize,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, entries: usize) -> Result<(), SelectError> {
        self.visits = self.visits.saturating_add(entries.max(1));
        if self.visits > MAX_VISITS {
            return Err(SelectError::TooComplex);
        }
        Ok(())
    }

    /// Entries with a text key, of a dictionary, of an object that is a kind of dictionary, or of a
    /// module. Everything else has none.
    fn entries(&mut self, id: Id) -> Result<Vec<(&'a str, Id)>, SelectError> {
        match self.arena.get(id) {
            Value::Dict(items) => self.text_entries(items),
            Value::Object { items, .. } if !items.is_empty() => self.text_entries(items),
            Value::Object { .. } => self.module_entries(id),
            _ => Ok(Vec::new()),
        }
    }

    fn text_entries(&mut self, items: &[(Id, Id)]) -> Result<Vec<(&'a str, Id)>, SelectError> {
        self.visit(items.len())?;
        let arena = self.arena;
        Ok(items
            .iter()
            .filter_map(|(key, value)| Some((arena.str(*key)?, *value)))
            .collect())
    }

    /// Attributes of a TorchScript module, or parameters, buffers and submodules of a pickled
    /// `torch.nn.Module`.
    fn module_entries(&mut self, id: Id) -> Result<Vec<(&'a str, Id)>, SelectError> {
        let arena = self.arena;
        let Value::Object {
            class,
            state: Some(state),
            ..
        } = arena.get(id)
        else {
            return Ok(Vec::new());
        };
        let Value::Dict(attributes) = arena.get(*state) else {
            return Ok(Vec::new());
        };
        let attributes = self.text_entries(attributes)?;
        let scripted = arena
            .global(*class)
            .is_some_and(|(module, _)| module.split('.').next() == Some("__torch__"));
        if scripted {
            return Ok(attributes);
        }
        let mut entries = Vec::new();
        for (name, value) in attributes {
            if matches!(name, "_parameters" | "_buffers" | "_modules") {
                entries.extend(self.entries(value)?);
            }
        }
        Ok(entries)
    }

    fn is_module(&self, id: Id) -> bool {
        matches!(self.arena.get(id), Value::Object { items, .. } if items.is_empty())
    }

    fn is_tensor(&self, id: Id) -> bool {
        matches!(self.arena.get(id), Value::Tensor(_)) || self.unsupported(id).is_some()
    }

    /// The function that rebuilds a tensor which is none of ours: sparse, quantised, without data.
    fn unsupported(&self, id: Id) -> Option<String> {
        match self.arena.get(id) {
            Value::Object { class, .. } => match self.arena.global(*class) {
                Some(("torch._utils", name)) if name.starts_with("_rebuild") => {
                    Some(name.trim_start_matches("_rebuild_").to_owned())
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn holds_tensors(&mut self, id: Id, depth: usize) -> Result<bool, SelectError> {
        if depth > MAX_DEPTH {
            return Err(SelectError::TooComplex);
        }
        for (_, value) in self.entries(id)? {
            if self.is_tensor(value) || self.holds_tensors(value, depth + 1)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Entries of `id` that are no tensors but hold some.
    fn holders(&mut self, id: Id) -> Result<Vec<(String, Id)>, SelectError> {
        let mut holders = BTreeMap::new();
        for (key, value) in self.entries(id)? {
            if !self.is_tensor(value) && self.holds_tensors(value, 0)? {
                holders.insert(key.to_owned(), value);
            }
        }
        Ok(holders.into_iter().collect())
    }

    /// The dictionary or module below `id` that is the weights.
    fn descend(&mut self, mut id: Id) -> Result<Id, SelectError> {
        for _ in 0..MAX_DEPTH {
            if self.is_module(id) {
                return Ok(id);
            }
            let holders = self.holders(id)?;
            let named = |names: &[&str], wanted: bool| -> Vec<(String, Id)> {
                let fits = |(key, _): &&(String, Id)| names.contains(&key.as_str()) == wanted;
                holders.iter().filter(fits).cloned().collect()
            };
            let mut candidates = named(WRAPPERS, true);
            if candidates.is_empty() {
                let entries = self.entries(id)?;
                if entries.iter().any(|(_, value)| self.is_tensor(*value)) {
                    return Ok(id);
                }
                candidates = named(TRAINING_STATE, false);
            }
            match candidates.as_slice() {
                [] => return Ok(id),
                [(_, only)] => id = *only,
                _ => {
                    let choices = candidates.into_iter().map(|(key, _)| key).collect();
                    return Err(SelectError::Ambiguous { choices });
                }
            }
        }
        Err(SelectError::TooComplex)
    }

    /// All tensors below `root` under dotted names.
    fn flatten(&mut self, root: Id) -> Result<BTreeMap<String, Tensor>, SelectError> {
        let mut tensors = BTreeMap::new();
        let mut pending = vec![(String::new(), root, 0)];
        while let Some((prefix, id, depth)) = pending.pop() {
            if depth > MAX_DEPTH {
                return Err(SelectError::TooComplex);
            }
            for (key, value) in self.entries(id)? {
                if prefix.len() + key.len() >= MAX_NAME {
                    return Err(SelectError::TooComplex);
                }
                let name = format!("{prefix}{key}");
                if let Some(kind) = self.unsupported(value) {
                    return Err(SelectError::Unsupported { tensor: name, kind });
                }
                match self.arena.get(value) {
                    Value::Tensor(tensor) => {
                        tensors.insert(name, *tensor);
                    }
                    Value::Dict(_) if depth == 0 && TRAINING_STATE.contains(&key) => {}
                    Value::Dict(_) | Value::Object { .. } => {
                        pending.push((format!("{name}."), value, depth + 1));
                    }
                    _ => {}
                }
            }
        }
        Ok(tensors)
    }

    fn collect_scalars(
        &mut self,
        id: Id,
        metadata: &mut BTreeMap<String, String>,
    ) -> Result<(), SelectError> {
        for (key, value) in self.entries(id)? {
            let text = match self.arena.get(value) {
                Value::Int(i) => i.to_string(),
                Value::Float(x) => x.to_string(),
                Value::Bool(b) => b.to_string(),
                Value::Str(s) => s.clone(),
                _ => continue,
            };
            if key.len() <= MAX_SCALAR && text.len() <= MAX_SCALAR {
                metadata.insert(key.to_owned(), text);
            }
        }
        Ok(())
    }

    /// What there is, for a message that no tensors were found.
    fn describe(&mut self, id: Id) -> Vec<String> {
        let shorten = |text: &str| text.chars().take(MAX_SCALAR).collect::<String>();
        match self.arena.get(id) {
            Value::Object { class, .. } => {
                vec![format!(
                    "an object of class {}",
                    self.arena.class_name(*class)
                )]
            }
            Value::Dict(_) => {
                let entries = self.entries(id).unwrap_or_default();
                entries.iter().map(|(key, _)| shorten(key)).collect()
            }
            Value::List(items) | Value::Tuple(items) => {
                vec![format!("a list of {} elements", items.len())]
            }
            Value::Tensor(_) => vec!["one tensor without a name".to_owned()],
            Value::None => vec!["None".to_owned()],
            _ => vec!["a scalar".to_owned()],
        }
    }
}
