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

use super::cast::cast;
use super::grammar::{Grammar, Kind, Plot, Role, Step};

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

    /// A uniform number in `0..bound` (multiply-shift: its bias is below 2^-22 for what is drawn here).
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.rng.next_u32()) * bound as u64) >> 32) as usize
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent as usize
    }

    pub(super) fn is_bound(&self, slot: &str) -> bool {
        self.bound.contains_key(slot)
    }

    pub(super) fn get(&self, slot: &str) -> Option<String> {
        self.bound.get(slot).cloned()
    }

    /// Binds a slot once: what a document has said stays said.
    pub(super) fn bind(&mut self, slot: &str, value: String) {
        self.bound.entry(slot.to_owned()).or_insert(value);
    }

    pub(super) fn has_item(&self, rule: &str, item: &str) -> bool {
        self.grammar
            .rules
            .get(rule)
            .is_some_and(|items| items.iter().any(|other| other == item))
    }

    /// A plot drawn by weight among those of which `keep` is true.
    pub(super) fn draw_plot(&mut self, keep: impl Fn(&Plot) -> bool) -> Result<&'g Plot> {
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
            Step::Cast { prefix, class } => cast(self, prefix, class)?,
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

    /// Binds a row; where its first column is bound already, a row that agrees with it.
    pub(super) fn pick(&mut self, name: &str, prefix: Option<&str>) -> Result<()> {
        let table = self
            .grammar
            .tables
            .get(name)
            .with_context(|| format!("no table `{name}`"))?;
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

    /// Expands a template to text.
    pub(super) fn expand(&mut self, template: &str) -> Result<String> {
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

    /// The text with `a` or `an` before it.
    pub(super) fn with_article(&mut self, template: &str) -> Result<String> {
        let text = self.expand(template)?;
        Ok(format!("{} {text}", article(&text)))
    }

    fn reference(&mut self, name: &str) -> Result<String> {
        if let Some(inner) = name.strip_prefix("a ") {
            return self.with_article(&format!("{{{inner}}}"));
        }
        if let Some(inner) = name.strip_prefix("A ") {
            return Ok(capitalise(&self.with_article(&format!("{{{inner}}}"))?));
        }
        if let Some(inner) = name.strip_prefix("s ") {
            return Ok(plural(&self.reference(inner)?));
        }
        if let Some(prefix) = name.strip_suffix('~') {
            let subject = self.subject(&prefix.to_lowercase())?;
            return Ok(if prefix.starts_with(char::is_uppercase) {
                capitalise(&subject)
            } else {
                subject
            });
        }
        if let Some(table) = name.strip_prefix("any ") {
            let table = self
                .grammar
                .tables
                .get(table)
                .with_context(|| format!("no table `{table}`"))?;
            let row = self.below(table.rows.len());
            return Ok(table.rows[row][0].clone());
        }
        if name == "STORY" {
            let plot = self.draw_plot(|plot| plot.kind == Kind::Story)?;
            return self.inline(plot);
        }
        if let Some(plot) = name.strip_prefix("PLOT ") {
            let plot = self.grammar.plot(plot)?;
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
            return Ok(capitalise(&self.reference(&uncapitalise(name))?));
        }
        bail!("nothing is called `{name}`")
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

/// Sentences with a space between them, paragraphs with an empty line.
pub(crate) fn join(pieces: &[Piece]) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Sentences(sentences) => {
                if !text.is_empty() && !text.ends_with('\n') && !sentences.starts_with('\n') {
                    text.push(' ');
                }
                text.push_str(sentences);
            }
            Piece::Paragraph if text.is_empty() => {}
            Piece::Paragraph => {
                text.truncate(text.trim_end().len());
                text.push_str("\n\n");
            }
            Piece::Turn(_) => {}
        }
    }
    text.truncate(text.trim_end().len());
    text
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

pub(super) fn capitalise(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

fn uncapitalise(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

/// `an` before a vowel's sound.
fn article(text: &str) -> &'static str {
    let silent = text.starts_with("hour") || text.starts_with("honest");
    let voiced = text.starts_with("uni") || text.starts_with("use") || text.starts_with("one");
    let vowel = text.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U']);
    if silent || (vowel && !voiced) {
        "an"
    } else {
        "a"
    }
}

/// English plural of a noun, by its ending; the irregular ones that the lists hold by name.
pub(super) fn plural(noun: &str) -> String {
    let irregular = [
        ("mouse", "mice"),
        ("goose", "geese"),
        ("sheep", "sheep"),
        ("fish", "fish"),
        ("deer", "deer"),
        ("wolf", "wolves"),
        ("leaf", "leaves"),
        ("loaf", "loaves"),
        ("knife", "knives"),
        ("child", "children"),
        ("man", "men"),
        ("woman", "women"),
        ("foot", "feet"),
        ("scarf", "scarves"),
        ("potato", "potatoes"),
        ("tomato", "tomatoes"),
        ("calf", "calves"),
        ("shelf", "shelves"),
    ];
    for (one, many) in irregular {
        if let Some(stem) = noun.strip_suffix(one) {
            return format!("{stem}{many}");
        }
    }
    if ["s", "x", "ch", "sh"]
        .iter()
        .any(|ending| noun.ends_with(ending))
    {
        return format!("{noun}es");
    }
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{noun}s"),
    }
}

/// What holds for all sentences: `I said`, never `said I`; capitals; `''` is a quotation mark that
/// names a word instead of opening a speech.
fn finish(text: &str) -> String {
    let mut text = text.trim_matches(' ').to_owned();
    for verb in ["said", "asked", "cried", "called out", "called", "shouted"] {
        for end in [".", ",", " "] {
            text = text.replace(&format!("\" {verb} I{end}"), &format!("\" I {verb}{end}"));
        }
    }
    // An alternative may bring its own mark.
    for (marks, mark) in [
        ("?,", "?"),
        ("?.", "?"),
        ("?!", "?"),
        ("!,", "!"),
        (".?", "."),
    ] {
        text = text.replace(marks, mark);
    }
    sentence_case(&text).replace("  ", " ").replace("''", "\"")
}

/// Capitals at the start, after a sentence's end, and at the start of what is quoted. After
/// `!"` and `?"` the sentence may go on (`"Help!" she cried`), so there the template decides.
fn sentence_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut before_last, mut last, mut spaced, mut quoted) = (' ', '.', true, false);
    for character in text.chars() {
        if character.is_whitespace() {
            out.push(character);
            spaced = true;
            continue;
        }
        let ended =
            matches!(last, '.' | '!' | '?') || (last == '"' && !quoted && before_last == '.');
        let opened = last == '"' && quoted && !spaced;
        if character.is_alphabetic() && ((ended && spaced) || opened) {
            out.extend(character.to_uppercase());
        } else {
            out.push(character);
        }
        quoted ^= character == '"';
        (before_last, last, spaced) = (last, character, false);
    }
    out
}
