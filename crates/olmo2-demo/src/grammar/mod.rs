//! The corpus grammar as data: lists, rules, tables and plots, read from the text files beside it.
//!
//! ```text
//! @list color             words, separated by commas
//! @rule greeting          one template a line
//! @table food name verb   rows, cells separated by ` | `
//! == lost 10 story        a plot: name, weight, kind (story, text, chat, part)
//! cast h any              binds a character (see `characters.rs`) to a prefix
//! pick food               binds a row's cells to the column names (`pick food as x`: `x.name`)
//! let thing = {a color}   binds one expansion
//! :: 60                   a beat, said with this chance; the lines below are its variants
//! -- 30                   a paragraph break with this chance
//! >> user                 a turn of a chat begins
//! ```

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

const FILES: [(&str, &str); 7] = [
    ("words.txt", include_str!("words.txt")),
    ("common.txt", include_str!("common.txt")),
    ("stories.txt", include_str!("stories.txt")),
    ("fables.txt", include_str!("fables.txt")),
    ("more.txt", include_str!("more.txt")),
    ("texts.txt", include_str!("texts.txt")),
    ("chat.txt", include_str!("chat.txt")),
];

/// Rows of cells under named columns.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// What a plot is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A tale with a hero `h`: a document of its own, or `{STORY}` inside another.
    Story,
    /// Any other prose document.
    Text,
    /// Turns in the chat template.
    Chat,
    /// Never a document of its own: reached by `{PLOT name}`.
    Part,
}

/// Who speaks in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    User,
    Assistant,
}

#[derive(Debug)]
pub(crate) enum Step {
    Cast {
        prefix: String,
        class: String,
    },
    Let {
        slot: String,
        template: String,
    },
    Pick {
        table: String,
        prefix: Option<String>,
    },
    Beat {
        percent: u32,
        variants: Vec<String>,
    },
    Break {
        percent: u32,
    },
    Turn(Role),
}

/// A document's outline.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) name: String,
    pub(crate) weight: u32,
    pub(crate) kind: Kind,
    pub(crate) steps: Vec<Step>,
}

/// Everything the corpus is written from.
#[derive(Debug, Default)]
pub(crate) struct Grammar {
    pub(crate) rules: BTreeMap<String, Vec<String>>,
    pub(crate) tables: BTreeMap<String, Table>,
    pub(crate) plots: Vec<Plot>,
}

/// The definition that the next plain lines belong to.
enum Open {
    Nothing,
    List(String),
    Rule(String),
    Table(String),
    Plot,
}

impl Grammar {
    /// Reads the files embedded in this binary.
    ///
    /// # Errors
    /// Names the file and line that could not be read.
    pub(crate) fn embedded() -> Result<Self> {
        let mut grammar = Self::default();
        for (name, text) in FILES {
            let mut open = Open::Nothing;
            for (index, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                grammar
                    .read_line(line, &mut open)
                    .with_context(|| format!("{name}:{}", index + 1))?;
            }
        }
        Ok(grammar)
    }

    fn read_line(&mut self, line: &str, open: &mut Open) -> Result<()> {
        if let Some(rest) = line.strip_prefix('@') {
            *open = self.read_definition(rest)?;
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("== ") {
            self.plots.push(read_plot(rest)?);
            *open = Open::Plot;
            return Ok(());
        }
        match open {
            Open::Nothing => bail!("line outside of a definition: {line}"),
            Open::List(name) => {
                let items = line
                    .split(',')
                    .map(|item| item.trim().to_owned())
                    .filter(|item| !item.is_empty());
                self.rules.entry(name.clone()).or_default().extend(items);
            }
            Open::Rule(name) => self
                .rules
                .entry(name.clone())
                .or_default()
                .push(line.to_owned()),
            Open::Table(name) => {
                let table = self.tables.get_mut(name).context("table vanished")?;
                table.rows.push(read_row(line, table.columns.len())?);
            }
            Open::Plot => {
                let plot = self.plots.last_mut().context("no plot is open")?;
                read_step(line, &mut plot.steps)?;
            }
        }
        Ok(())
    }

    fn read_definition(&mut self, rest: &str) -> Result<Open> {
        let mut words = rest.split_whitespace();
        let (kind, name) = (
            words.next().unwrap_or_default(),
            words.next().context("name missing")?.to_owned(),
        );
        Ok(match kind {
            "list" => Open::List(name),
            "rule" => Open::Rule(name),
            "table" => {
                let columns = words.map(str::to_owned).collect();
                self.tables.insert(
                    name.clone(),
                    Table {
                        columns,
                        rows: Vec::new(),
                    },
                );
                Open::Table(name)
            }
            other => bail!("unknown definition `@{other}`"),
        })
    }

    /// The plot of that name.
    pub(crate) fn plot(&self, name: &str) -> Result<&Plot> {
        self.plots
            .iter()
            .find(|plot| plot.name == name)
            .with_context(|| format!("no plot `{name}`"))
    }
}

fn read_row(line: &str, columns: usize) -> Result<Vec<String>> {
    let row: Vec<String> = line
        .split(" | ")
        .map(|cell| cell.trim().to_owned())
        .collect();
    if row.len() != columns {
        bail!("row of {} cells under {columns} columns: {line}", row.len());
    }
    Ok(row)
}

fn read_plot(rest: &str) -> Result<Plot> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let [name, weight, kind] = words[..] else {
        bail!("expected NAME WEIGHT KIND, found `{rest}`")
    };
    let kind = match kind {
        "story" => Kind::Story,
        "text" => Kind::Text,
        "chat" => Kind::Chat,
        "part" => Kind::Part,
        other => bail!("unknown kind `{other}`"),
    };
    Ok(Plot {
        name: name.to_owned(),
        weight: weight.parse()?,
        kind,
        steps: Vec::new(),
    })
}

fn percent(text: &str) -> Result<u32> {
    let text = text.trim();
    Ok(if text.is_empty() { 100 } else { text.parse()? })
}

fn read_step(line: &str, steps: &mut Vec<Step>) -> Result<()> {
    if let Some(rest) = line.strip_prefix("::") {
        steps.push(Step::Beat {
            percent: percent(rest)?,
            variants: Vec::new(),
        });
    } else if let Some(rest) = line.strip_prefix("--") {
        steps.push(Step::Break {
            percent: percent(rest)?,
        });
    } else if let Some(rest) = line.strip_prefix(">>") {
        steps.push(Step::Turn(match rest.trim() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => bail!("unknown role `{other}`"),
        }));
    } else if let Some(Step::Beat { variants, .. }) = steps.last_mut() {
        if !line.starts_with("cast ") && !line.starts_with("let ") && !line.starts_with("pick ") {
            variants.push(line.to_owned());
            return Ok(());
        }
        return read_binding(line, steps);
    } else {
        return read_binding(line, steps);
    }
    Ok(())
}

fn read_binding(line: &str, steps: &mut Vec<Step>) -> Result<()> {
    let words: Vec<&str> = line.split_whitespace().collect();
    steps.push(match words[..] {
        ["cast", prefix, class] => Step::Cast {
            prefix: prefix.to_owned(),
            class: class.to_owned(),
        },
        ["pick", table] => Step::Pick {
            table: table.to_owned(),
            prefix: None,
        },
        ["pick", table, "as", prefix] => Step::Pick {
            table: table.to_owned(),
            prefix: Some(prefix.to_owned()),
        },
        ["let", slot, "=", ..] => {
            let (_, template) = line.split_once('=').context("`=` missing")?;
            Step::Let {
                slot: slot.to_owned(),
                template: template.trim().to_owned(),
            }
        }
        _ => bail!("a variant outside of a beat: {line}"),
    });
    Ok(())
}
