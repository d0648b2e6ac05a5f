//! The module trees of all crates: each begins at a file that no other file has as its module.

use std::collections::{BTreeMap, BTreeSet};

use super::syntax::{self, Child, ModuleSyntax};
use super::{Source, Violation};

/// The modules of a library, program, test, bench or example, without those of its tests.
#[derive(Debug)]
pub(super) struct Crate<'s> {
    /// The root is the first.
    pub(super) modules: Vec<Module<'s>>,
}

/// Where a module stands in [`Crate::modules`].
pub(super) type ModuleId = usize;

#[derive(Debug)]
pub(super) struct Module<'s> {
    pub(super) parent: Option<ModuleId>,
    pub(super) file: &'s str,
    pub(super) syntax: &'s ModuleSyntax,
    /// Several of one name are alternatives of `cfg`.
    pub(super) children: BTreeMap<&'s str, Vec<ModuleId>>,
}

/// Files by their paths.
pub(super) type Files<'s> = BTreeMap<&'s str, ModuleSyntax>;

/// Parses all files; those that cannot be parsed are violations.
pub(super) fn parse(sources: &[Source]) -> (Files<'_>, Vec<Violation>) {
    let (mut files, mut broken) = (Files::new(), Vec::new());
    for source in sources.iter().filter(|source| source.path.ends_with(".rs")) {
        match syntax::parse(&source.text) {
            Ok(syntax) => drop(files.insert(&source.path, syntax)),
            Err(error) => {
                let line = error.span().start().line;
                broken.push(Violation::new(&source.path, line, error.to_string()));
            }
        }
    }
    (files, broken)
}

/// The crates that files make up.
pub(super) fn crates<'s>(files: &'s Files<'s>) -> Vec<Crate<'s>> {
    let mut below = BTreeSet::new();
    for (path, syntax) in files {
        below.extend(children(files, &Place::of(path), syntax));
    }
    let roots = files.iter().filter(|(path, _)| !below.contains(*path));
    roots.map(|(path, _)| Crate::new(files, path)).collect()
}

impl<'s> Crate<'s> {
    fn new(files: &'s Files<'s>, root: &'s str) -> Self {
        let mut new = Self {
            modules: Vec::new(),
        };
        new.add(files, None, &Place::of(root), &files[root]);
        new
    }

    fn add(
        &mut self,
        files: &'s Files<'s>,
        parent: Option<ModuleId>,
        place: &Place<'s>,
        syntax: &'s ModuleSyntax,
    ) -> ModuleId {
        let id = self.modules.len();
        self.modules.push(Module {
            parent,
            file: place.file,
            syntax,
            children: BTreeMap::new(),
        });
        for child in syntax.children.iter().filter(|child| !child.is_test) {
            let added = match &child.body {
                Some(body) => Some(self.add(files, Some(id), &place.inside(&child.name), body)),
                None => place
                    .file_of(files, child)
                    .map(|file| self.add(files, Some(id), &Place::of(file), &files[file])),
            };
            if let Some(added) = added {
                let same = self.modules[id].children.entry(&child.name);
                same.or_default().push(added);
            }
        }
        id
    }

    /// A module and those above it.
    pub(super) fn ancestors(&self, id: ModuleId) -> impl Iterator<Item = ModuleId> {
        std::iter::successors(Some(id), |id| self.modules[*id].parent)
    }
}

/// All files below a module, those of tests too.
fn children<'s>(files: &'s Files<'s>, place: &Place<'s>, syntax: &ModuleSyntax) -> Vec<&'s str> {
    let mut found = Vec::new();
    for child in &syntax.children {
        match &child.body {
            Some(body) => found.extend(children(files, &place.inside(&child.name), body)),
            None => found.extend(place.file_of(files, child)),
        }
    }
    found
}

/// Where a module's children are looked for.
struct Place<'s> {
    file: &'s str,
    /// Names of the modules with a body around it, each followed by a slash.
    inside: String,
}

impl<'s> Place<'s> {
    fn of(file: &'s str) -> Self {
        Self {
            file,
            inside: String::new(),
        }
    }

    fn inside(&self, name: &str) -> Self {
        Self {
            file: self.file,
            inside: format!("{}{name}/", self.inside),
        }
    }

    /// The file of a child that has no body.
    fn file_of(&self, files: &'s Files<'s>, child: &Child) -> Option<&'s str> {
        let (folder, name) = self.file.rsplit_once('/').unwrap_or(("", self.file));
        let stem = name.strip_suffix(".rs").unwrap_or(name);
        let (inside, child_name) = (&self.inside, &child.name);
        let candidates = match &child.path {
            Some(path) => vec![format!("{folder}/{path}")],
            // A root of any name has its children beside it.
            None => vec![
                format!("{folder}/{stem}/{inside}{child_name}.rs"),
                format!("{folder}/{stem}/{inside}{child_name}/mod.rs"),
                format!("{folder}/{inside}{child_name}.rs"),
                format!("{folder}/{inside}{child_name}/mod.rs"),
            ],
        };
        let found = |path: &String| files.get_key_value(path.as_str()).map(|(path, _)| *path);
        candidates.iter().find_map(found)
    }
}
