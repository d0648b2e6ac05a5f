//! Which keys a query sees: the one place that decides between no mask and an explicit one.
//!
//! burn's `is_causal` is not used: with more keys than queries, as with a cache, its backends align
//! the diagonal differently (bottom-right in the fallback and on Flex, top-left in cubek's flash
//! kernel, and tuning may choose either).

use std::cell::RefCell;

use burn::prelude::*;
use burn::tensor::TensorData;

use crate::cache::Run;

/// The masks of one layer kind in one pass, each made when a layer first needs it.
#[derive(Debug)]
pub(super) struct Masks<B: Backend> {
    window: Option<usize>,
    device: B::Device,
    made: RefCell<Vec<Made<B>>>,
}

#[derive(Debug)]
struct Made<B: Backend> {
    /// First row of the runs, and the number of keys.
    of: [usize; 2],
    mask: Option<Tensor<B, 4, Bool>>,
}

impl<B: Backend> Masks<B> {
    pub(super) fn new(window: Option<usize>, device: &B::Device) -> Self {
        Self {
            window,
            device: device.clone(),
            made: RefCell::default(),
        }
    }

    /// The mask of runs of one length over the first `keys` positions of their slots, `[runs or 1,
    /// 1, tokens, keys]`, true where a key is hidden; `None` where every query sees every key.
    pub(super) fn of(&self, runs: &[Run], keys: usize) -> Option<Tensor<B, 4, Bool>> {
        let of = [runs[0].row, keys];
        let mut made = self.made.borrow_mut();
        if let Some(made) = made.iter().find(|made| made.of == of) {
            return made.mask.clone();
        }
        let mask = causal_mask(runs, keys, self.window, &self.device);
        let copy = mask.clone();
        made.push(Made { of, mask });
        copy
    }
}

/// A query sees the positions up to its own, or the last `window` of them. The comparison is done on the device: a position for
/// each query is all that is uploaded.
fn causal_mask<B: Backend>(
    runs: &[Run],
    keys: usize,
    window: Option<usize>,
    device: &B::Device,
) -> Option<Tensor<B, 4, Bool>> {
    let window = window.filter(|&window| window < keys);
    let sees_all = |run: &Run| run.tokens == 1 && run.end() == keys && window.is_none();
    if runs.iter().all(sees_all) {
        return None;
    }
    let tokens = runs[0].tokens;
    let alike = runs.iter().all(|run| run.start == runs[0].start);
    let runs = if alike { &runs[..1] } else { runs };
    let own = runs.iter().flat_map(|run| run.start..run.end());
    let own: Vec<i32> = own.map(|position| position as i32).collect();
    let own = TensorData::new(own, [runs.len(), 1, tokens, 1]);
    let own = Tensor::<B, 4, Int>::from_data(own, device);
    let positions = Tensor::<B, 1, Int>::arange(0..keys as i64, device);
    let positions = positions.reshape([1, 1, 1, keys]);
    let shape = [runs.len(), 1, tokens, keys];
    // Both are moved: where a view that is expanded has a second reader, burn's fusion (0.21) reads
    // other elements.
    let (positions, own) = (positions.expand(shape), own.expand(shape));
    Some(match window {
        Some(window) => {
            let behind = own - positions;
            let later = behind.clone().lower_elem(0);
            later.bool_or(behind.greater_equal_elem(window as i64))
        }
        None => positions.greater(own),
    })
}
