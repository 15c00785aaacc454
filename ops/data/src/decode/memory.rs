//! One memory budget for all threads that decode: a large image waits until the others are done,
//! rather than every thread holding one.

use std::sync::{Condvar, Mutex, PoisonError};

/// What all decoders hold together, in bytes. An image that needs more is decoded alone.
const BUDGET: u64 = 1 << 30;

static FREE: Mutex<u64> = Mutex::new(BUDGET);
static RETURNED: Condvar = Condvar::new();

/// A part of the budget, returned when it is dropped.
pub(super) struct Permit(u64);

/// Waits until this many bytes are free.
pub(super) fn reserve(bytes: u64) -> Permit {
    let bytes = bytes.min(BUDGET);
    let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = RETURNED.wait_while(free, |free| *free < bytes);
    *waited.unwrap_or_else(PoisonError::into_inner) -= bytes;
    Permit(bytes)
}

impl Drop for Permit {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        RETURNED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn threads_hold_at_most_the_budget_together() {
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for number in 0..8_u64 {
                let (held, most) = (&held, &most);
                scope.spawn(move || {
                    for round in 0..20 {
                        let bytes = BUDGET / (1 + (number + round) % 4);
                        let permit = reserve(bytes);
                        let now = held.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        most.fetch_max(now, Ordering::SeqCst);
                        held.fetch_sub(bytes, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert!(most.into_inner() <= BUDGET);
        // More than there is waits for all of it, not forever.
        drop(reserve(u64::MAX));
    }
}
