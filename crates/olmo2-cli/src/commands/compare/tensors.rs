//! Differences of two sets of weights, as they are stored.

use olmo2::{StoredWeight, Weights};
use serde::Serialize;

/// How the tensors of B differ from those of A.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tensors {
    /// Tensors with the same values; their types may differ.
    pub(super) equal: usize,
    /// Worst first.
    pub(super) different: Vec<Difference>,
    /// In A alone.
    pub(super) missing: Vec<String>,
    /// In B alone.
    pub(super) surplus: Vec<String>,
    /// Of another shape in B.
    pub(super) reshaped: Vec<String>,
}

/// The difference of one tensor's values.
#[derive(Debug, Serialize)]
pub(super) struct Difference {
    pub(super) name: String,
    pub(super) max: f64,
    /// Root mean square.
    pub(super) rmse: f64,
    /// The same over the root mean square of A's values.
    pub(super) relative: f64,
}

impl Tensors {
    pub(super) fn of(a: &Weights, b: &Weights) -> Self {
        let mut found = Self::default();
        for (name, weight) in a.iter() {
            let Some(other) = b.get(name) else {
                found.missing.push(name.into());
                continue;
            };
            if weight.shape() != other.shape() {
                found.reshaped.push(name.into());
                continue;
            }
            match difference(name, weight, other) {
                Some(difference) => found.different.push(difference),
                None => found.equal += 1,
            }
        }
        let surplus = b.iter().filter(|(name, _)| a.get(name).is_none());
        found.surplus = surplus.map(|(name, _)| name.into()).collect();
        found
            .different
            .sort_by(|a, b| b.relative.total_cmp(&a.relative));
        found
    }
}

/// `None` where all values are equal.
fn difference(name: &str, a: &StoredWeight, b: &StoredWeight) -> Option<Difference> {
    let (&width, rows) = a.shape().split_last()?;
    let (mut x, mut y) = (vec![0.0; width], vec![0.0; width]);
    let rows: usize = rows.iter().product();
    let [mut max, mut squares, mut size] = [0.0_f64; 3];
    for row in 0..rows {
        read(a, row, &mut x);
        read(b, row, &mut y);
        for (&x, &y) in x.iter().zip(&y) {
            size += f64::from(x).powi(2);
            // What is not a number on one side alone differs without bound.
            let gap = match x.to_bits() == y.to_bits() {
                true => 0.0,
                false => (f64::from(x) - f64::from(y)).abs(),
            };
            let gap = if gap.is_nan() { f64::INFINITY } else { gap };
            max = max.max(gap);
            squares += gap * gap;
        }
    }
    let count = (rows * width) as f64;
    (max > 0.0).then(|| Difference {
        name: name.into(),
        max,
        rmse: (squares / count).sqrt(),
        relative: (squares / size).sqrt(),
    })
}

fn read(weight: &StoredWeight, row: usize, out: &mut [f32]) {
    match weight {
        StoredWeight::Float(tensor) => tensor.row(row, out),
        StoredWeight::Packed(packed) => packed.row(row, out),
    }
}
