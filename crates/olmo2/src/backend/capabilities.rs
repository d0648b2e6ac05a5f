//! What a backend can do, as one value.

use burn::prelude::*;
use burn::tensor::DType;

use crate::cache::{CacheDtype, CacheDtypeError, CacheSetup};
use crate::precision::{Precision, PrecisionError};
use crate::storage::StoredFormat;

/// What a backend can do on a device: which types it computes in, and what own kernels read as it
/// is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The backend's name.
    pub(super) backend: String,
    /// Precisions that the backend computes in.
    pub(super) precisions: Vec<Precision>,
    /// What a cache can be stored in.
    pub(super) cache_dtypes: Vec<CacheDtype>,
    /// Formats of weights that own kernels read in place, in a precision other than f16.
    pub(super) formats_in_place: &'static [StoredFormat],
    /// A cache's capacity is rounded up to a multiple of this many positions.
    pub(super) cache_bucket: usize,
}

impl Capabilities {
    /// Checks that the backend computes in `precision`.
    ///
    /// # Errors
    /// It does not.
    pub fn check_precision(&self, precision: Precision) -> Result<(), PrecisionError> {
        match self.precisions.contains(&precision) {
            true => Ok(()),
            false => Err(PrecisionError {
                backend: self.backend.clone(),
                precision: precision.name(),
            }),
        }
    }

    /// Checks that the backend has a cache in `dtype`.
    ///
    /// # Errors
    /// It has not.
    pub fn check_cache(&self, dtype: CacheDtype) -> Result<(), CacheDtypeError> {
        match self.cache_dtypes.contains(&dtype) {
            true => Ok(()),
            false => Err(CacheDtypeError {
                backend: self.backend.clone(),
                dtype,
            }),
        }
    }

    /// Whether own kernels read weights stored in `format` in place when a model computes in
    /// `precision`; blocks then stay packed.
    pub fn reads_in_place(&self, precision: Precision, format: StoredFormat) -> bool {
        self.has_kernels(precision) && self.formats_in_place.contains(&format)
    }

    /// Whether own kernels do the matmuls of a model that computes in `precision`.
    pub fn has_kernels(&self, precision: Precision) -> bool {
        precision != Precision::F16 && !self.formats_in_place.is_empty()
    }

    /// The dtype of activations between operations, and of an f32 cache.
    pub fn activations(&self, precision: Precision) -> DType {
        match self.has_kernels(precision) {
            true => DType::F32,
            false => precision.compute(),
        }
    }

    /// The dtype in which floats stored as `stored` lie in memory.
    pub(crate) fn stored_dtype(&self, precision: Precision, stored: DType) -> DType {
        match self.reads_in_place(precision, StoredFormat::of(stored)) {
            true => stored,
            false => precision.compute(),
        }
    }

    /// What a cache in `dtype` is made with.
    pub(crate) fn cache_setup<B: Backend>(
        &self,
        precision: Precision,
        dtype: CacheDtype,
    ) -> CacheSetup<B> {
        CacheSetup {
            check: self.check_cache(dtype),
            activations: self.activations(precision),
            bucket: self.cache_bucket,
            allocator: super::allocator::<B>(),
        }
    }
}

/// The precisions whose dtype burn's operations of `B` have on `device`.
pub(super) fn precisions<B: Backend>(device: &B::Device) -> Vec<Precision> {
    let has = |precision: &Precision| B::supports_dtype(device, precision.compute());
    Precision::ALL.into_iter().filter(has).collect()
}
