//! The state of one document while it is written: its random stream and what is bound. Templates
//! and characters are written on top of it, each in a file of its own.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::grammar::{Grammar, Plot, Role};

/// A piece of a document, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Sentences(String),
    Paragraph,
    Turn(Role),
}

/// The state of one document.
#[derive(Debug)]
pub(crate) struct Scene<'g> {
    pub(crate) grammar: &'g Grammar,
    rng: ChaCha8Rng,
    bound: BTreeMap<String, String>,
    /// Templates that are open, one inside the other.
    pub(crate) depth: usize,
}

impl<'g> Scene<'g> {
    /// A document's own random stream: the same for a seed and an index, whatever was written before.
    pub(crate) fn new(grammar: &'g Grammar, seed: u64, index: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        Self {
            grammar,
            rng,
            bound: BTreeMap::new(),
            depth: 0,
        }
    }

    /// A uniform number in `0..bound` (multiply-shift: its bias is below 2^-22 for what is drawn here).
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.rng.next_u32()) * bound as u64) >> 32) as usize
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent as usize
    }

    pub(crate) fn is_bound(&self, slot: &str) -> bool {
        self.bound.contains_key(slot)
    }

    pub(crate) fn get(&self, slot: &str) -> Option<String> {
        self.bound.get(slot).cloned()
    }

    /// Binds a slot once: what a document has said stays said.
    pub(crate) fn bind(&mut self, slot: &str, value: String) {
        self.bound.entry(slot.to_owned()).or_insert(value);
    }

    pub(crate) fn has_item(&self, rule: &str, item: &str) -> bool {
        self.grammar
            .rules
            .get(rule)
            .is_some_and(|items| items.iter().any(|other| other == item))
    }

    /// A plot drawn by weight among those of which `keep` is true.
    pub(crate) fn draw_plot(&mut self, keep: impl Fn(&Plot) -> bool) -> Result<&'g Plot> {
        let grammar = self.grammar;
        let plots: Vec<&Plot> = grammar
            .plots
            .iter()
            .filter(|plot| plot.weight > 0 && keep(plot))
            .collect();
        let total: u32 = plots.iter().map(|plot| plot.weight).sum();
        let mut rest = self.below(total as usize) as u32;
        for plot in plots {
            if rest < plot.weight {
                return Ok(plot);
            }
            rest -= plot.weight;
        }
        bail!("no plot to draw from")
    }
}
