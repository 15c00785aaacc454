//! Work done by several threads, with its results in the order of the jobs.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use blip_engine::OpError;
use crossbeam::channel::{self, Receiver, Sender};

/// What came of a job, with the job's number.
type Done<R> = (u64, Result<R, OpError>);

/// Jobs go in by [`Ordered::push`], results come out by [`Ordered::pop`] in the same order. Whoever
/// pushes bounds how much is under way. The threads end when this is dropped.
pub(crate) struct Ordered<J, R> {
    todo: Sender<(u64, J)>,
    results: Receiver<Done<R>>,
    /// Done before their turn.
    ready: BTreeMap<u64, Result<R, OpError>>,
    pushed: u64,
    popped: u64,
}

impl<J: Send + 'static, R: Send + 'static> Ordered<J, R> {
    /// Starts the threads.
    pub(crate) fn new(
        threads: usize,
        work: impl Fn(J) -> Result<R, OpError> + Send + Sync + 'static,
    ) -> Self {
        let (todo, taken) = channel::unbounded::<(u64, J)>();
        let (done, results) = channel::unbounded::<Done<R>>();
        let work = Arc::new(work);
        for _ in 0..threads.max(1) {
            let (work, taken, done) = (Arc::clone(&work), taken.clone(), done.clone());
            thread::spawn(move || {
                for (number, job) in taken {
                    // A result that nobody makes any more would be waited for forever.
                    let result =
                        catch_unwind(AssertUnwindSafe(|| work(job))).unwrap_or_else(|_| {
                            Err(OpError::Bug("a thread of the stage panicked".to_owned()))
                        });
                    if done.send((number, result)).is_err() {
                        return;
                    }
                }
            });
        }
        Self {
            todo,
            results,
            ready: BTreeMap::new(),
            pushed: 0,
            popped: 0,
        }
    }

    /// One job more.
    pub(crate) fn push(&mut self, job: J) {
        // The threads live as long as this does.
        if self.todo.send((self.pushed, job)).is_ok() {
            self.pushed += 1;
        }
    }

    /// How many jobs have not been popped.
    pub(crate) fn waiting(&self) -> u64 {
        self.pushed - self.popped
    }

    /// The result of the next job, when it is done; none when there is no job.
    pub(crate) fn pop(&mut self) -> Option<Result<R, OpError>> {
        if self.waiting() == 0 {
            return None;
        }
        let turn = self.popped;
        self.popped += 1;
        loop {
            if let Some(result) = self.ready.remove(&turn) {
                return Some(result);
            }
            match self.results.recv() {
                Ok((number, result)) => self.ready.insert(number, result),
                Err(_) => {
                    return Some(Err(OpError::Bug(
                        "the threads of the stage are gone".to_owned(),
                    )));
                }
            };
        }
    }
}

impl<J, R> std::fmt::Debug for Ordered<J, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ordered")
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
        let mut ordered = Ordered::new(4, |number: u64| {
            thread::sleep(std::time::Duration::from_micros(number * 7919 % 500));
            assert!(number != 50, "fifty");
            Ok(number)
        });
        (0..100).for_each(|number| ordered.push(number));
        for number in 0..100 {
            match ordered.pop().unwrap() {
                Ok(result) => assert_eq!(result, number),
                Err(error) => assert_eq!(
                    (number, error.to_string().as_str()),
                    (50, "a thread of the stage panicked")
                ),
            }
        }
        assert!(ordered.pop().is_none());
    }
}
