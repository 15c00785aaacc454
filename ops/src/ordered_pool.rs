//! A pool of threads whose results come out in the order in which their tasks went in.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use blip_engine::{OpError, THREADS_HELP};
use crossbeam::channel::{self, Receiver, Sender};

/// A task's number with its result.
type Numbered<R> = (u64, Result<R, OpError>);

/// Tasks go in by [`OrderedPool::push`], results come out by [`OrderedPool::pop`] in the same
/// order. The channels are unbounded: the caller bounds how much is in flight. The threads end when
/// the pool is dropped.
pub(crate) struct OrderedPool<T, R> {
    tasks: Sender<(u64, T)>,
    results: Receiver<Numbered<R>>,
    /// Results that arrived before those of earlier tasks.
    early: BTreeMap<u64, Result<R, OpError>>,
    pushed: u64,
    popped: u64,
}

impl<T: Send + 'static, R: Send + 'static> OrderedPool<T, R> {
    /// Starts as many of the threads as can be started, at least one.
    ///
    /// # Errors
    /// None can.
    pub(crate) fn new(
        threads: usize,
        work: impl Fn(T) -> Result<R, OpError> + Send + Sync + 'static,
    ) -> Result<Self, OpError> {
        let (tasks, task_receiver) = channel::unbounded();
        let (result_sender, results) = channel::unbounded();
        let work = Arc::new(work);
        for number in 0..threads.max(1) {
            let work = Arc::clone(&work);
            let (tasks, results) = (task_receiver.clone(), result_sender.clone());
            let thread = move || work_off(&tasks, &results, work.as_ref());
            match thread::Builder::new().spawn(thread) {
                Ok(_) => {}
                Err(error) if number == 0 => {
                    let what = format!("could not start a thread: {error}");
                    return Err(OpError::failed(what, THREADS_HELP));
                }
                Err(_) => break,
            }
        }
        Ok(Self {
            tasks,
            results,
            early: BTreeMap::new(),
            pushed: 0,
            popped: 0,
        })
    }

    pub(crate) fn push(&mut self, task: T) {
        // The send cannot fail while `self` exists: the threads only end when `tasks` is dropped.
        if self.tasks.send((self.pushed, task)).is_ok() {
            self.pushed += 1;
        }
    }

    /// How many tasks were pushed and not popped.
    pub(crate) fn in_flight(&self) -> u64 {
        self.pushed - self.popped
    }

    /// Waits for the result of the oldest task in flight; `None` when none is.
    pub(crate) fn pop(&mut self) -> Option<Result<R, OpError>> {
        if self.in_flight() == 0 {
            return None;
        }
        let next = self.popped;
        self.popped += 1;
        loop {
            if let Some(result) = self.early.remove(&next) {
                return Some(result);
            }
            match self.results.recv() {
                Ok((number, result)) => self.early.insert(number, result),
                Err(_) => {
                    let what = "the threads of the stage ended early".to_owned();
                    return Some(Err(OpError::Bug(what)));
                }
            };
        }
    }
}

/// What a thread does until no more tasks can come, or no one receives results.
fn work_off<T, R>(
    tasks: &Receiver<(u64, T)>,
    results: &Sender<Numbered<R>>,
    work: &(impl Fn(T) -> Result<R, OpError> + ?Sized),
) {
    for (number, task) in tasks {
        // A panic must become a result: `pop` would otherwise wait forever for this number, since
        // the other threads keep the channel open.
        let outcome = catch_unwind(AssertUnwindSafe(|| work(task)));
        let result = outcome
            .unwrap_or_else(|_| Err(OpError::Bug("a thread of the stage panicked".to_owned())));
        if results.send((number, result)).is_err() {
            return;
        }
    }
}

impl<T, R> std::fmt::Debug for OrderedPool<T, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OrderedPool")
            .field("pushed", &self.pushed)
            .field("popped", &self.popped)
            .finish_non_exhaustive()
    }
}

/// How many cores this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_a_panic_is_one_of_them() {
        let mut pool = OrderedPool::new(4, |number: u64| {
            thread::sleep(std::time::Duration::from_micros(number * 7919 % 500));
            assert!(number != 50, "fifty");
            Ok(number)
        })
        .unwrap();
        (0..100).for_each(|number| pool.push(number));
        for number in 0..100 {
            match pool.pop().unwrap() {
                Ok(result) => assert_eq!(result, number),
                Err(error) => assert_eq!(
                    (number, error.to_string().as_str()),
                    (50, "a thread of the stage panicked")
                ),
            }
        }
        assert!(pool.pop().is_none());
    }
}
