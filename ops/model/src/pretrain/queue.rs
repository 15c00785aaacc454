//! The queue of ITC: momentum features of earlier batches, as further negatives (paper section 3.2,
//! after ALBEF and MoCo).

use tch::{Device, Kind, Tensor, no_grad};

/// The id of an entry that belongs to no image.
const NO_IMAGE: i64 = -100;

/// A ring buffer of features.
#[derive(Debug)]
pub(super) struct Queue {
    /// (Q, embed)
    pub(super) images: Tensor,
    /// (Q, embed)
    pub(super) texts: Tensor,
    /// (Q): the image that an entry belongs to
    pub(super) ids: Tensor,
    /// Where the next entry is written.
    pub(super) next: i64,
}

impl Queue {
    /// Random unit vectors that belong to no image, as in the official code.
    pub(super) fn random(length: i64, embed: i64, device: Device) -> Self {
        let unit_vectors = || {
            let random = Tensor::randn([length, embed], (Kind::Float, Device::Cpu));
            let norm = random.norm_scalaropt_dim(2, [1_i64].as_slice(), true); // (Q, 1)
            (random / norm).to_device(device)
        };
        Self {
            images: unit_vectors(),
            texts: unit_vectors(),
            ids: Tensor::full([length], NO_IMAGE, (Kind::Int64, device)),
            next: 0,
        }
    }

    pub(super) fn len(&self) -> i64 {
        self.ids.size()[0]
    }

    /// Replaces the oldest entries. Of a batch larger than the queue, the last entries remain.
    pub(super) fn push(&mut self, images: &Tensor, texts: &Tensor, ids: &Tensor) {
        let (length, count) = (self.len(), ids.size()[0]);
        let mut from = (count - length).max(0);
        let mut remaining = count.min(length);
        while remaining > 0 {
            // Up to the end of the buffer, then once more from its start.
            let run = remaining.min(length - self.next);
            let copy = |queue: &Tensor, batch: &Tensor| {
                let mut target = queue.narrow(0, self.next, run);
                target.copy_(&batch.narrow(0, from, run));
            };
            no_grad(|| {
                copy(&self.images, images);
                copy(&self.texts, texts);
                copy(&self.ids, ids);
            });
            self.next = (self.next + run) % length;
            from += run;
            remaining -= run;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids and the next place after pushing these batches; every entry's features are its id.
    fn pushed(length: i64, batches: &[&[i64]]) -> (Vec<i64>, i64) {
        let mut queue = Queue::random(length, 2, Device::Cpu);
        for batch in batches {
            let ids = Tensor::from_slice(batch);
            let features = ids.to_kind(Kind::Float).unsqueeze(1).expand([-1, 2], false);
            queue.push(&features, &features, &ids);
        }
        let features = Vec::<f32>::try_from(&queue.images.select(1, 0)).unwrap();
        let ids = Vec::<i64>::try_from(&queue.ids).unwrap();
        for (id, feature) in ids.iter().zip(features) {
            assert!(*id == NO_IMAGE || *id as f32 == feature);
        }
        (ids, queue.next)
    }

    #[test]
    fn a_queue_takes_batches_of_any_size() {
        let _device_lock = crate::device::lock().unwrap();
        let none = NO_IMAGE;
        assert_eq!(pushed(4, &[&[1, 2, 3]]), (vec![1, 2, 3, none], 3));
        assert_eq!(pushed(4, &[&[1, 2, 3], &[4, 5, 6]]), (vec![5, 6, 3, 4], 2));
        assert_eq!(pushed(3, &[&[1, 2, 3, 4, 5]]), (vec![3, 4, 5], 0));
        assert_eq!(pushed(0, &[&[1, 2]]), (vec![], 0));
    }
}
