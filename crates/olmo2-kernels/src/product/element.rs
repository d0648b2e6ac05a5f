//! The float types of weights, widened while they are read.

use super::{Input, Matmul, WeightData};
use crate::simd::Simd;
use half::{bf16, f16};

/// An element type of float weights.
///
/// Loads need no alignment; their callers promise the memory.
#[allow(clippy::missing_safety_doc, reason = "said above, once for all")]
pub(super) trait WeightElement: Copy + Send + Sync {
    /// Whether [`WeightElement::load_block`] separates even from odd elements, which requires the
    /// same of the activations.
    const SPLIT: bool;
    const ZERO: Self;

    /// `2 * LANES` elements as two vectors.
    unsafe fn load_block<S: Simd>(s: S, p: *const Self) -> (S::V, S::V);
    /// `LANES` elements in order.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V;
    fn widen(self) -> f32;
    /// The elements of a weight of this type; `None` for another one.
    fn of<'a>(data: &WeightData<'a>) -> Option<&'a [Self]>;
}

impl WeightElement for f32 {
    const SPLIT: bool = false;
    const ZERO: Self = 0.0;

    #[inline(always)]
    unsafe fn load_block<S: Simd>(s: S, p: *const Self) -> (S::V, S::V) {
        // SAFETY: the caller promises two vectors.
        unsafe { (s.load(p), s.load(p.add(S::LANES))) }
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: the caller promises a vector.
        unsafe { s.load(p) }
    }
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    fn of<'a>(data: &WeightData<'a>) -> Option<&'a [Self]> {
        match data {
            WeightData::F32(elements) => Some(elements),
            _ => None,
        }
    }
}

impl WeightElement for bf16 {
    /// A shift and a mask turn a register of bf16 into two registers of f32.
    const SPLIT: bool = true;
    const ZERO: Self = Self::ZERO;

    #[inline(always)]
    unsafe fn load_block<S: Simd>(s: S, p: *const Self) -> (S::V, S::V) {
        // SAFETY: the caller promises two vectors.
        unsafe { s.load_bf16_split(p) }
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: the caller promises a vector.
        unsafe { s.load_bf16(p) }
    }
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
    fn of<'a>(data: &WeightData<'a>) -> Option<&'a [Self]> {
        match data {
            WeightData::Bf16(elements) => Some(elements),
            _ => None,
        }
    }
}

impl WeightElement for f16 {
    const SPLIT: bool = false;
    const ZERO: Self = Self::ZERO;

    #[inline(always)]
    unsafe fn load_block<S: Simd>(s: S, p: *const Self) -> (S::V, S::V) {
        // SAFETY: the caller promises two vectors.
        unsafe { (s.load_f16(p), s.load_f16(p.add(S::LANES))) }
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: the caller promises a vector.
        unsafe { s.load_f16(p) }
    }
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
    fn of<'a>(data: &WeightData<'a>) -> Option<&'a [Self]> {
        match data {
            WeightData::F16(elements) => Some(elements),
            _ => None,
        }
    }
}

/// The elements of a weight that has this type, checked against its shape.
pub(super) fn elements<'a, E: WeightElement>(input: &Input<'_>, matmul: &Matmul<'a>) -> &'a [E] {
    let Some(elements) = E::of(&matmul.data) else {
        unreachable!("the caller has matched the format, and a gate has the format of its matmul");
    };
    assert_eq!(elements.len(), matmul.out_features * input.in_features);
    elements
}
