//! `models`: the models in the hub's cache, and the revisions on the hub.

use std::io::{self, Write};

use olmo2::hub::{CachedModel, Hub, HubOptions, Revision, cached_models, parse_id, remove};
use serde_json::{Value, json};

use super::json::print_json;
use crate::memory::size;
use crate::messages::{Context, Result};
use crate::request::ModelsRequest;

pub(super) fn run(command: &ModelsRequest) -> Result<()> {
    let options = HubOptions::from_env()?;
    let mut out = io::stdout().lock();
    match command {
        ModelsRequest::List { json } => {
            let models = cached_models(&options.cache_dir)?;
            match json {
                true => return print_json(&list_json(&models)),
                false => write!(out, "{}", list_text(&models, &options))?,
            }
        }
        ModelsRequest::Remove { id, revision } => {
            let id = &meant(id)?;
            let freed = remove(&options.cache_dir, id, revision.as_deref())?;
            writeln!(out, "removed `{id}`: {} freed", size(freed))?;
        }
        ModelsRequest::Revisions { id, json } => {
            let id = meant(id)?;
            let asked = || format!("cannot ask for the revisions of `{id}`");
            let revisions = Hub::new(options).revisions(&id).with_context(asked)?;
            match json {
                true => return print_json(&revisions_json(&revisions)),
                false => write!(out, "{}", revisions_text(&revisions))?,
            }
        }
    }
    Ok(out.flush()?)
}

/// The id, also of the address of a page on the hub.
fn meant(id: &str) -> Result<String> {
    Ok(parse_id(id)?.unwrap_or_else(|| id.to_owned()))
}

fn list_text(models: &[CachedModel], options: &HubOptions) -> String {
    if models.is_empty() {
        return format!("no models in `{}`\n", options.cache_dir.display());
    }
    let mut text = String::new();
    for model in models {
        text += &format!("{}  {}\n", model.id, size(model.size_on_disk));
        for revision in &model.revisions {
            let names = match revision.refs.is_empty() {
                true => "no name".into(),
                false => revision.refs.join(", "),
            };
            let state = if revision.is_complete {
                ""
            } else {
                "  incomplete"
            };
            let commit = revision.commit.get(..12).unwrap_or(&revision.commit);
            let size = size(revision.size_on_disk);
            text += &format!("  {commit}  {size}  {names}{state}\n");
        }
    }
    text
}

fn list_json(models: &[CachedModel]) -> Value {
    let revisions = |model: &CachedModel| -> Vec<Value> {
        let all = model.revisions.iter();
        all.map(|revision| {
            json!({
                "commit": revision.commit,
                "refs": revision.refs,
                "path": revision.path,
                "size_on_disk": revision.size_on_disk,
                "is_complete": revision.is_complete,
            })
        })
        .collect()
    };
    let all = models.iter().map(|model| {
        json!({
            "id": model.id,
            "path": model.path,
            "size_on_disk": model.size_on_disk,
            "revisions": revisions(model),
        })
    });
    all.collect()
}

fn revisions_text(revisions: &[Revision]) -> String {
    let width = revisions.iter().map(|revision| revision.name.len()).max();
    let width = width.unwrap_or(0);
    let line = |revision: &Revision| {
        let commit = revision.commit.get(..12).unwrap_or(&revision.commit);
        let kind = if revision.is_tag { "  tag" } else { "" };
        format!("{:width$}  {commit}{kind}\n", revision.name)
    };
    revisions.iter().map(line).collect()
}

fn revisions_json(revisions: &[Revision]) -> Value {
    let all = revisions.iter().map(|revision| {
        let checkpoint = revision.checkpoint.map(|checkpoint| {
            json!({
                "stage": checkpoint.stage,
                "ingredient": checkpoint.ingredient,
                "step": checkpoint.step,
                "tokens_billions": checkpoint.tokens_billions,
            })
        });
        json!({
            "name": revision.name,
            "commit": revision.commit,
            "is_tag": revision.is_tag,
            "checkpoint": checkpoint,
        })
    });
    all.collect()
}
