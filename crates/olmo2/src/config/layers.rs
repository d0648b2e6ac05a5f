//! Kinds of layers: full attention, and the sliding windows of Olmo 3.

use serde::Deserialize;

use super::ConfigError;
use super::rope::{RopeConfig, RopeParameters};

/// transformers' `sliding_window` of an Olmo 3 file that does not name one.
const DEFAULT_WINDOW: usize = 4096;
/// Every fourth layer of Olmo 3 is full where the file does not list them.
const FULL_EVERY: usize = 4;

/// What a layer attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerType {
    /// All positions up to its own.
    FullAttention,
    /// The last [`SlidingConfig::window`] positions, its own among them.
    SlidingAttention,
}

/// The sliding layers of Olmo 3.
#[derive(Debug, Clone, PartialEq)]
pub struct SlidingConfig {
    /// Query `i` sees keys `j` with `i - window < j <= i`.
    pub window: usize,
    /// Rotary position embedding of sliding layers.
    pub rope: RopeConfig,
    /// The type of each layer.
    pub layer_types: Vec<LayerType>,
}

/// The fields of layer kinds as they are written.
#[derive(Debug)]
pub(super) struct LayerFields {
    pub(super) is_olmo3: bool,
    pub(super) num_layers: usize,
    pub(super) layer_types: Option<Vec<LayerType>>,
    /// The outer `None` is an absent field, the inner one `null`.
    pub(super) sliding_window: Option<Option<usize>>,
}

impl LayerFields {
    /// The type of each layer, and the window of sliding ones where there are any.
    pub(super) fn resolve(self) -> Result<Option<(usize, Vec<LayerType>)>, ConfigError> {
        let layer_types = match (self.layer_types, self.is_olmo3) {
            (Some(types), _) => types,
            (None, true) => (1..=self.num_layers).map(default_type).collect(),
            (None, false) => return Ok(None),
        };
        if layer_types.len() != self.num_layers {
            let expected = format!("{} layers, as `num_hidden_layers`", self.num_layers);
            let found = layer_types.len();
            return Err(ConfigError::field("layer_types", expected, found));
        }
        if !layer_types.contains(&LayerType::SlidingAttention) {
            return Ok(None);
        }
        if !self.is_olmo3 {
            let expected = "`full_attention` alone in a model of type `olmo2`";
            let found = "`sliding_attention`";
            return Err(ConfigError::field("layer_types", expected, found));
        }
        match self.sliding_window.unwrap_or(Some(DEFAULT_WINDOW)) {
            Some(window) if window > 0 => Ok(Some((window, layer_types))),
            found => Err(ConfigError::field(
                "sliding_window",
                "a number above 0, since `layer_types` has `sliding_attention`",
                found.map_or("none".into(), |window| window.to_string()),
            )),
        }
    }
}

/// The type of the layer that `number` counts from 1.
fn default_type(number: usize) -> LayerType {
    match number.is_multiple_of(FULL_EVERY) {
        true => LayerType::FullAttention,
        false => LayerType::SlidingAttention,
    }
}

/// The rope fields of `config.json` as they are written.
#[derive(Debug)]
pub(super) struct RopeFields {
    pub(super) theta: Option<f64>,
    pub(super) scaling: Option<RopeParameters>,
    pub(super) parameters: Option<RopeParameters>,
    pub(super) max_position_embeddings: usize,
    pub(super) original_max_position_embeddings: Option<usize>,
}

impl RopeFields {
    /// The ropes of full and of sliding layers.
    ///
    /// Released files of Olmo 3 have `rope_theta` for both kinds and `rope_scaling` for full layers.
    /// transformers from 5.0 to 5.12 saved that as one flat `rope_parameters`, later releases save
    /// one for each kind. As in transformers, a `rope_scaling` that is not empty takes the place of a
    /// flat `rope_parameters` as a whole.
    pub(super) fn resolve(self) -> Result<[RopeConfig; 2], ConfigError> {
        let scaling = self.scaling.filter(|scaling| !scaling.is_empty());
        let mut parameters = self.parameters.unwrap_or_default();
        let finish = |fields: RopeParameters| {
            fields.resolve(
                self.theta,
                self.max_position_embeddings,
                self.original_max_position_embeddings,
            )
        };
        let kinds = parameters.take_kinds();
        if kinds.iter().all(Option::is_none) {
            let full = finish(scaling.unwrap_or(parameters))?;
            let sliding = RopeConfig::plain(full.theta);
            return Ok([full, sliding]);
        }
        if scaling.is_some() || !parameters.is_empty() {
            let other = match scaling {
                Some(_) => "`rope_scaling` beside it",
                None => "fields of one rope beside it",
            };
            let expected = "`full_attention` and `sliding_attention` alone";
            return Err(ConfigError::field("rope_parameters", expected, other));
        }
        let [full, sliding] = kinds;
        let Some(full) = full else {
            let found = "`sliding_attention` alone";
            return Err(ConfigError::field(
                "rope_parameters",
                "`full_attention`",
                found,
            ));
        };
        let full = finish(full)?;
        let sliding = match sliding {
            Some(sliding) => finish(sliding)?,
            None => RopeConfig::plain(full.theta),
        };
        Ok([full, sliding])
    }
}
