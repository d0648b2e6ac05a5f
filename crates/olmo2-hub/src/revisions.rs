//! The revisions of a model, with the training steps in the names of OLMo's branches.

use serde::Deserialize;

/// A branch or tag of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The name, which [`Hub::fetch`](super::Hub::fetch) takes.
    pub name: String,
    /// Its commit.
    pub commit: String,
    /// Whether it is a tag rather than a branch.
    pub is_tag: bool,
    /// The point in training, if the name holds one.
    pub checkpoint: Option<Checkpoint>,
}

/// The point in training of an intermediate checkpoint. The order is that of training: stage,
/// ingredient, step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checkpoint {
    /// 1 pre-training, 2 mid-training, 3 long context.
    pub stage: u32,
    /// The run of the stage, if there are several.
    pub ingredient: Option<u32>,
    /// Optimizer steps in this stage.
    pub step: u64,
    /// Tokens seen in this stage, in billions. Names of Olmo 3 do not hold it.
    pub tokens_billions: Option<u64>,
}

impl Checkpoint {
    /// Reads `stage1-step140000-tokens294B`, `stage2-ingredient1-step23852-tokens51B`,
    /// `stage3-step1000`; `None` for any other name.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-').peekable();
        let stage = number(parts.next()?.strip_prefix("stage")?)?;
        let ingredient = match parts.peek()?.strip_prefix("ingredient") {
            Some(digits) => {
                parts.next();
                Some(number(digits)?)
            }
            None => None,
        };
        let step = number(parts.next()?.strip_prefix("step")?)?;
        let tokens_billions = match parts.next() {
            Some(tokens) => Some(number(tokens.strip_prefix("tokens")?.strip_suffix('B')?)?),
            None => None,
        };
        parts.next().is_none().then_some(Self {
            stage,
            ingredient,
            step,
            tokens_billions,
        })
    }
}

/// Parses digits only: `parse` would accept a sign.
fn number<T: std::str::FromStr>(digits: &str) -> Option<T> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The answer of `/api/models/{id}/refs`.
#[derive(Deserialize)]
pub(super) struct Refs {
    #[serde(default)]
    branches: Vec<Ref>,
    #[serde(default)]
    tags: Vec<Ref>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ref {
    name: String,
    target_commit: String,
}

impl Refs {
    /// `main`, then names without a step in alphabetical order, then checkpoints in the order of
    /// training.
    pub(super) fn sorted(self) -> Vec<Revision> {
        let revision = |is_tag| {
            move |found: Ref| Revision {
                checkpoint: Checkpoint::parse(&found.name),
                name: found.name,
                commit: found.target_commit,
                is_tag,
            }
        };
        let branches = self.branches.into_iter().map(revision(false));
        let tags = self.tags.into_iter().map(revision(true));
        let mut revisions: Vec<Revision> = branches.chain(tags).collect();
        revisions.sort_by(|a, b| {
            let key = |revision: &Revision| (revision.name != "main", revision.checkpoint);
            key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
        });
        revisions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_olmo_2_and_3_are_read() {
        // Names from the model cards of OLMo 2 1B and Olmo 3.
        for (name, stage, ingredient, step, tokens_billions) in [
            ("stage1-step140000-tokens294B", 1, None, 140_000, Some(294)),
            (
                "stage2-ingredient1-step23852-tokens51B",
                2,
                Some(1),
                23_852,
                Some(51),
            ),
            ("stage2-ingredient2-step1000", 2, Some(2), 1000, None),
            ("stage3-step11921", 3, None, 11_921, None),
        ] {
            let expected = Checkpoint {
                stage,
                ingredient,
                step,
                tokens_billions,
            };
            assert_eq!(Checkpoint::parse(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn other_names_tell_no_step() {
        for name in [
            "main",
            "",
            "stage1",
            "stage-step1",
            "stage1-step",
            "stage1-step1-tokens2T",
            "step1-tokens1B",
            "stage1-step1-tokens1B-hf",
            "stage1-step+1",
            "stage1-ingredient1",
            "stage1-step99999999999999999999",
        ] {
            assert_eq!(Checkpoint::parse(name), None, "{name}");
        }
    }

    #[test]
    fn revisions_are_in_the_order_of_training() {
        let expected = [
            "main",
            "gguf",
            "v1.0",
            "stage1-step0-tokens0B",
            "stage1-step9000-tokens19B",
            "stage1-step10000-tokens21B",
            "stage2-ingredient1-step9000-tokens19B",
            "stage2-ingredient2-step1000-tokens3B",
            "stage2-ingredient10-step1000-tokens3B",
            "stage3-step1",
        ];
        let mut branches: Vec<Ref> = expected
            .iter()
            .map(|name| Ref {
                name: (*name).into(),
                target_commit: "c".into(),
            })
            .collect();
        let tag = branches.remove(2);
        branches.reverse();
        let sorted = Refs {
            branches,
            tags: vec![tag],
        }
        .sorted();
        let names: Vec<&str> = sorted
            .iter()
            .map(|revision| revision.name.as_str())
            .collect();
        assert_eq!(names, expected);
        assert!(
            sorted
                .iter()
                .all(|revision| revision.is_tag == (revision.name == "v1.0"))
        );
    }
}
