//! What can be taken out of memory and loaded again.

use std::sync::{Arc, Mutex, PoisonError};

type Load<T, E> = Box<dyn Fn() -> Result<T, E> + Send + Sync>;

/// A network that is loaded when it is asked for, and stays until it is released.
pub struct OnDemand<T, E> {
    load: Load<T, E>,
    loaded: Mutex<Option<Arc<T>>>,
}

impl<T, E> OnDemand<T, E> {
    /// What `load` gives, each time the same. Nothing is loaded yet.
    pub fn new(load: impl Fn() -> Result<T, E> + Send + Sync + 'static) -> Self {
        Self {
            load: Box::new(load),
            loaded: Mutex::new(None),
        }
    }

    /// It, loaded now unless it is there already. Whoever else asks meanwhile waits.
    ///
    /// # Errors
    /// What loading fails with.
    pub fn get(&self) -> Result<Arc<T>, E> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        match &*loaded {
            Some(it) => Ok(it.clone()),
            None => Ok(loaded.insert(Arc::new((self.load)()?)).clone()),
        }
    }

    /// Takes it out of memory, as soon as nobody uses it any more.
    pub fn release(&self) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        *loaded = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn it_is_loaded_when_it_is_not_there_and_only_then() {
        let times = Arc::new(AtomicUsize::new(0));
        let counted = times.clone();
        let counting = move || Ok::<_, String>(counted.fetch_add(1, Ordering::Relaxed) + 1);
        let on_demand = OnDemand::new(counting);
        assert_eq!(times.load(Ordering::Relaxed), 0);
        let first = on_demand.get().unwrap();
        assert_eq!((*first, *on_demand.get().unwrap()), (1, 1));
        on_demand.release();
        assert_eq!(Arc::strong_count(&first), 1);
        assert_eq!(*on_demand.get().unwrap(), 2);
        assert_eq!(*first, 1);
    }

    #[test]
    fn after_a_failure_it_is_tried_again() {
        let times = AtomicUsize::new(0);
        let failing = move || match times.fetch_add(1, Ordering::Relaxed) {
            0 => Err("not now"),
            n => Ok(n),
        };
        let on_demand = OnDemand::new(failing);
        assert_eq!(on_demand.get(), Err("not now"));
        assert_eq!(on_demand.get(), Ok(Arc::new(1)));
    }
}
