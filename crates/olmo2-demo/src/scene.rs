//! One document being written: bound slots, the random stream, and the expansion of templates.
//!
//! In a template, `[a|b|]` is one of its alternatives; `{x}` is a bound slot or, if none is bound,
//! a fresh expansion of the rule `x`; `{X}` the same with a capital; `{a x}` puts the article
//! before it; `{s x}` makes it plural; `{h~}` is the character `h` as a subject, by name or pronoun;
//! `{STORY}` and `{PLOT name}` write another plot in place.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::characters;
use crate::grammar::{Grammar, Kind, Plot, Step, Table};
use crate::piece::Piece;
use crate::prose::{article, capitalize, finish, join, plural, uncapitalize};
use crate::stage::Stage;

/// The state of one document.
#[derive(Debug)]
pub(crate) struct Scene<'g> {
    grammar: &'g Grammar,
    rng: ChaCha8Rng,
    bound: BTreeMap<String, String>,
    depth: usize,
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

    /// Writes a plot into pieces.
    pub(crate) fn write(&mut self, plot: &Plot) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        for step in &plot.steps {
            self.step(step, &mut pieces)
                .with_context(|| format!("in plot `{}`", plot.name))?;
        }
        Ok(pieces)
    }

    fn step(&mut self, step: &Step, pieces: &mut Vec<Piece>) -> Result<()> {
        match step {
            Step::Cast { prefix, class } => characters::bind(self, prefix, class)?,
            Step::Let { slot, template } => {
                if !self.is_bound(slot) {
                    let value = self.expand(template)?;
                    self.bind(slot, value);
                }
            }
            Step::Pick { table, prefix } => self.pick(table, prefix.as_deref())?,
            Step::Beat { percent, variants } => {
                if self.chance(*percent) && !variants.is_empty() {
                    let variant = &variants[self.below(variants.len())];
                    let text = self.expand(variant)?;
                    pieces.push(Piece::Sentences(finish(&text)));
                }
            }
            Step::Break { percent } => {
                if self.chance(*percent) {
                    pieces.push(Piece::Paragraph);
                }
            }
            Step::Turn(role) => pieces.push(Piece::Turn(*role)),
        }
        Ok(())
    }

    fn reference(&mut self, name: &str) -> Result<String> {
        if let Some((word, inner)) = name.split_once(' ') {
            return self.applied(word, inner);
        }
        if let Some(prefix) = name.strip_suffix('~') {
            let subject = self.subject(&prefix.to_lowercase())?;
            let capital = prefix.starts_with(char::is_uppercase);
            return Ok(if capital {
                capitalize(&subject)
            } else {
                subject
            });
        }
        if name == "STORY" {
            let plot = self.draw_plot(|plot| plot.kind == Kind::Story)?;
            return self.inline(plot);
        }
        if let Some(value) = self.mention(name) {
            return Ok(value);
        }
        if let Some(variants) = self.rule(name) {
            let variant = &variants[self.below(variants.len())];
            return self.expand(variant);
        }
        if name.starts_with(char::is_uppercase) {
            return Ok(capitalize(&self.reference(&uncapitalize(name))?));
        }
        bail!("nothing is called `{name}`")
    }

    /// `{a x}`, `{s x}`, `{any TABLE}`, `{PLOT name}`: a word that does something with a name.
    fn applied(&mut self, word: &str, name: &str) -> Result<String> {
        Ok(match word {
            "a" => self.with_article(&format!("{{{name}}}"))?,
            "A" => capitalize(&self.with_article(&format!("{{{name}}}"))?),
            "s" => plural(&self.reference(name)?),
            "any" => {
                let rows = &self.table(name)?.rows;
                rows[self.below(rows.len())][0].clone()
            }
            "PLOT" => {
                let plot = self.grammar.plot(name)?;
                self.inline(plot)?
            }
            other => bail!("`{other}` does nothing with `{name}`"),
        })
    }

    fn table(&self, name: &str) -> Result<&'g Table> {
        let tables = &self.grammar.tables;
        tables
            .get(name)
            .with_context(|| format!("no table `{name}`"))
    }

    /// A bound slot. The second character `f` is introduced where it is first named, whichever
    /// beat that is, and only there.
    fn mention(&mut self, name: &str) -> Option<String> {
        let name = match name {
            "f" | "f.o" | "f.the" if !self.is_bound("f.met") => "f.intro",
            "f.intro" if self.is_bound("f.met") => "f",
            _ => name,
        };
        let value = self.get(name)?;
        if name == "f.intro" {
            self.bind("f.met", String::new());
        }
        Some(value)
    }

    /// A rule's variants: `name.I` where the hero tells the story, `name.K` where the hero is kin
    /// of who tells it, if there is such a rule.
    fn rule(&self, name: &str) -> Option<&'g Vec<String>> {
        let rules = &self.grammar.rules;
        let special = match self.bound.get("h") {
            Some(hero) if hero == "I" => rules.get(&format!("{name}.I")),
            Some(hero) if hero.starts_with("my ") => rules.get(&format!("{name}.K")),
            _ => None,
        };
        special.or_else(|| rules.get(name))
    }

    /// A character as the subject of a later sentence; the name where a pronoun would be unclear.
    fn subject(&mut self, prefix: &str) -> Result<String> {
        let other = if prefix == "h" { "f.he" } else { "h.he" };
        let pronoun = self
            .get(&format!("{prefix}.he"))
            .with_context(|| format!("no character `{prefix}`"))?;
        let unclear = self.get(other).is_some_and(|other| other == pronoun);
        let field = match self.below(100) {
            roll if unclear && roll < 65 => "",
            _ if unclear => ".the",
            _ if self
                .bound
                .get(prefix)
                .is_some_and(|name| name.starts_with("my ")) =>
            {
                ".he"
            }
            roll if roll < 65 => ".he",
            roll if roll < 87 => "",
            _ => ".the",
        };
        self.get(&format!("{prefix}{field}"))
            .with_context(|| format!("no character `{prefix}`"))
    }

    fn inline(&mut self, plot: &Plot) -> Result<String> {
        Ok(join(&self.write(plot)?))
    }
}

impl Stage for Scene<'_> {
    fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.rng.next_u32()) * bound as u64) >> 32) as usize
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent as usize
    }

    fn is_bound(&self, slot: &str) -> bool {
        self.bound.contains_key(slot)
    }

    fn get(&self, slot: &str) -> Option<String> {
        self.bound.get(slot).cloned()
    }

    fn bind(&mut self, slot: &str, value: String) {
        self.bound.entry(slot.to_owned()).or_insert(value);
    }

    fn has_item(&self, rule: &str, item: &str) -> bool {
        self.grammar
            .rules
            .get(rule)
            .is_some_and(|items| items.iter().any(|other| other == item))
    }

    fn pick(&mut self, name: &str, prefix: Option<&str>) -> Result<()> {
        let table = self.table(name)?;
        let slot =
            |column: &str| prefix.map_or(column.to_owned(), |prefix| format!("{prefix}.{column}"));
        let wanted = self.get(&slot(&table.columns[0]));
        let mut rows: Vec<&Vec<String>> = table
            .rows
            .iter()
            .filter(|row| wanted.as_ref().is_none_or(|wanted| *wanted == row[0]))
            .collect();
        if rows.is_empty() {
            rows = table.rows.iter().collect();
        }
        let row = rows[self.below(rows.len())];
        for (column, cell) in table.columns.iter().zip(row) {
            let value = self.expand(cell)?;
            self.bind(&slot(column), value);
        }
        Ok(())
    }

    fn expand(&mut self, template: &str) -> Result<String> {
        if self.depth > 24 {
            bail!("rules call each other without an end: {template}");
        }
        self.depth += 1;
        let mut out = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '[']) {
            out.push_str(&rest[..at]);
            let (inner, after) =
                enclosed(&rest[at..]).with_context(|| format!("in `{template}`"))?;
            let value = if rest[at..].starts_with('{') {
                self.reference(inner)?
            } else {
                let choices = alternatives(inner);
                let choice = choices[self.below(choices.len())];
                self.expand(choice)?
            };
            out.push_str(&value);
            rest = after;
        }
        out.push_str(rest);
        self.depth -= 1;
        Ok(out.replace("\\n", "\n"))
    }

    fn with_article(&mut self, template: &str) -> Result<String> {
        let text = self.expand(template)?;
        Ok(format!("{} {text}", article(&text)))
    }
}

/// What lies between the bracket at the start and its partner, and what follows.
fn enclosed(text: &str) -> Result<(&str, &str)> {
    let mut depth = 0usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok((&text[1..at], &text[at + 1..]));
        }
    }
    bail!("a bracket is not closed")
}

/// Splits at the bars outside of inner brackets.
fn alternatives(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0usize, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}
