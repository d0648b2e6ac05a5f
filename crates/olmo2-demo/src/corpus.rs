//! The corpus: an endless sequence of documents, each a function of the seed, the split and its index.

use anyhow::Result;

use crate::grammar::{Grammar, Kind, Plot, Role};
use crate::piece::Piece;
use crate::prose::join;
use crate::scene::Scene;
use crate::stage::Stage;

/// Ends a document, and begins and ends the turns of the chat template.
pub(crate) const END_OF_TEXT: &str = "<|endoftext|>";

/// Where a document is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    Train,
    HeldOut,
}

/// How often each kind of document is written, in percent.
const SHARES: [(Kind, u32); 3] = [(Kind::Story, 58), (Kind::Text, 23), (Kind::Chat, 19)];

/// The writer of documents.
#[derive(Debug)]
pub(crate) struct Corpus {
    grammar: Grammar,
    seed: u64,
}

impl Corpus {
    /// # Errors
    /// A grammar file that cannot be read.
    pub(crate) fn new(seed: u64) -> Result<Self> {
        Ok(Self {
            grammar: Grammar::embedded()?,
            seed,
        })
    }

    /// The document's text, with the chat template around its turns, without the final `<|endoftext|>`.
    ///
    /// # Errors
    /// A template that names something that does not exist.
    pub(crate) fn document(&self, split: Split, index: u64) -> Result<String> {
        let (mut scene, plot) = self.begin(split, index)?;
        let pieces = scene.write(plot)?;
        Ok(if plot.kind == Kind::Chat {
            render_chat(&pieces)
        } else {
            join(&pieces)
        })
    }

    fn begin(&self, split: Split, index: u64) -> Result<(Scene<'_>, &Plot)> {
        // The splits draw from two seeds, so no document's stream is in both.
        let seed = match split {
            Split::Train => self.seed,
            Split::HeldOut => !self.seed,
        };
        let mut scene = Scene::new(&self.grammar, seed, index);
        let mut rest = scene.below(100) as u32;
        let kind = SHARES.iter().find_map(|&(kind, share)| {
            if rest < share {
                return Some(kind);
            }
            rest -= share;
            None
        });
        let plot = scene.draw_plot(|plot| Some(plot.kind) == kind)?;
        Ok((scene, plot))
    }

    /// The name of the document's plot.
    #[cfg(test)]
    fn name(&self, split: Split, index: u64) -> Result<&str> {
        Ok(&self.begin(split, index)?.1.name)
    }
}

/// The turns in the template of OLMo 2 Instruct, without its leading `<|endoftext|>` (the end of the
/// document before) and without the last one (this document's own end).
fn render_chat(pieces: &[Piece]) -> String {
    let mut text = String::new();
    for (role, pieces) in turns(pieces) {
        let content = join(pieces);
        text += &match role {
            Role::User => format!("<|user|>\n{content}\n"),
            Role::Assistant => format!("<|assistant|>\n{content}{END_OF_TEXT}\n"),
        };
    }
    let end = format!("{END_OF_TEXT}\n");
    text.strip_suffix(&end).unwrap_or(&text).to_owned()
}

/// Each turn's role and what follows it.
fn turns(pieces: &[Piece]) -> impl Iterator<Item = (Role, &[Piece])> {
    pieces
        .iter()
        .enumerate()
        .filter_map(|(at, piece)| match piece {
            Piece::Turn(role) => Some((*role, &pieces[at + 1..])),
            _ => None,
        })
        .map(|(role, rest)| {
            let end = rest
                .iter()
                .position(|piece| matches!(piece, Piece::Turn(_)));
            (role, &rest[..end.unwrap_or(rest.len())])
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTS: u64 = 4000;

    fn documents() -> impl Iterator<Item = (String, String)> {
        let corpus = Corpus::new(7).unwrap();
        (0..DOCUMENTS).map(move |index| {
            let text = corpus.document(Split::Train, index).unwrap();
            (corpus.name(Split::Train, index).unwrap().to_owned(), text)
        })
    }

    #[test]
    fn a_document_depends_on_seed_split_and_index_alone() {
        let (one, two) = (Corpus::new(7).unwrap(), Corpus::new(7).unwrap());
        two.document(Split::Train, 3).unwrap();
        assert_eq!(
            one.document(Split::Train, 11).unwrap(),
            two.document(Split::Train, 11).unwrap()
        );
        assert_ne!(
            one.document(Split::Train, 11).unwrap(),
            one.document(Split::HeldOut, 11).unwrap()
        );
        let other = Corpus::new(8).unwrap();
        assert_ne!(
            one.document(Split::Train, 11).unwrap(),
            other.document(Split::Train, 11).unwrap()
        );
    }

    #[test]
    fn every_plot_is_written_and_every_name_resolves() {
        let mut names: Vec<String> = documents().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        let corpus = Corpus::new(7).unwrap();
        let mut all: Vec<String> = corpus
            .grammar
            .plots
            .iter()
            .map(|plot| plot.name.clone())
            .collect();
        all.sort();
        assert_eq!(names, all);
    }

    #[test]
    fn sentences_are_separated_by_one_space() {
        for (name, text) in documents() {
            assert!(!text.contains("  "), "{name}: two spaces: {text}");
            assert!(
                !text.contains(['{', '}', '[', ']', '\\']),
                "{name}: a template shows: {text}"
            );
            let text = text.replace("Mr. ", "Mr ").replace("Mrs. ", "Mrs ");
            let characters: Vec<char> = text.chars().collect();
            for window in characters.windows(3) {
                let joined =
                    matches!(window[0], '.' | '!' | '?' | ',') && window[1].is_alphanumeric();
                assert!(!joined, "{name}: no space after {window:?}: {text}");
                let doubled = matches!(window[0], '.' | '!' | '?' | ',')
                    && matches!(window[1], '.' | ',' | '!' | '?');
                assert!(!doubled, "{name}: two marks {window:?}: {text}");
                let capital = matches!(window[0], '.' | '!' | '?')
                    && window[1] == ' '
                    && window[2].is_lowercase();
                assert!(!capital, "{name}: no capital after {window:?}: {text}");
            }
        }
    }

    #[test]
    fn quotation_marks_are_balanced_in_each_paragraph() {
        for (name, text) in documents() {
            for paragraph in text.split('\n') {
                assert_eq!(paragraph.matches('"').count() % 2, 0, "{name}: {paragraph}");
            }
        }
    }

    #[test]
    fn documents_end_with_a_sentence() {
        for (name, text) in documents().filter(|(name, _)| name != "letter") {
            assert!(text.ends_with(['.', '!', '?', '"']), "{name}: {text}");
        }
    }

    #[test]
    fn articles_and_first_person_verbs_agree() {
        for (name, text) in documents() {
            for wrong in [
                " a apple",
                " a old ",
                " an big",
                "said I.",
                "said I,",
                " asked I ",
                " I is ",
                "my my ",
                "the the ",
                "the my ",
            ] {
                assert!(!text.contains(wrong), "{name}: `{wrong}` in {text}");
            }
        }
    }

    #[test]
    fn a_chat_is_the_instruct_template() {
        let corpus = Corpus::new(7).unwrap();
        let chat = |name: &str| {
            (0..)
                .find(|&index| corpus.name(Split::Train, index).unwrap() == name)
                .unwrap()
        };
        let text = corpus.document(Split::Train, chat("chat-thanks")).unwrap();
        let turns: Vec<&str> = text.split("<|endoftext|>\n").collect();
        assert_eq!(turns.len(), 2, "{text}");
        for turn in turns {
            assert!(
                turn.starts_with("<|user|>\n") && turn.contains("\n<|assistant|>\n"),
                "{text}"
            );
            assert!(!turn.ends_with('\n'), "{text}");
        }
    }
}
