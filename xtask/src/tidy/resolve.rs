//! From a path to the file that defines what it names: through imports, re-exports and globs.

use std::collections::BTreeSet;

use super::modules::{Crate, ModuleId};
use super::syntax::ImportName;

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// A module of this crate.
    Module(ModuleId),
    /// An item that the module defines.
    Item(ModuleId),
}

impl Target {
    /// The module that is named, or that defines the item.
    pub(super) fn module(self) -> ModuleId {
        match self {
            Self::Module(id) | Self::Item(id) => id,
        }
    }
}

/// Follows paths through one crate.
pub(super) struct Resolver<'c, 's> {
    pub(super) of: &'c Crate<'s>,
}

/// Names that are being looked up: re-exports may lead in a ring.
type Open<'s> = BTreeSet<(ModuleId, &'s str)>;

impl<'s> Resolver<'_, 's> {
    /// What a path in a module names; nothing, if that lies in another crate. Names of one spelling
    /// (a function and a module, or alternatives of `cfg`) are all found.
    pub(super) fn resolve(&self, from: ModuleId, path: &'s [String]) -> BTreeSet<Target> {
        self.follow(from, path, &mut Open::new())
    }

    /// Whether a path in code leads no further than the `use` that brought in its first name.
    pub(super) fn repeats_import(&self, from: ModuleId, path: &'s [String]) -> bool {
        self.is_imported(from, &path[0])
            && self.resolve(from, path) == self.resolve(from, &path[..1])
    }

    fn follow(&self, from: ModuleId, path: &'s [String], open: &mut Open<'s>) -> BTreeSet<Target> {
        let Some((first, rest)) = path.split_first() else {
            return BTreeSet::new();
        };
        let mut found = self.first(from, first, open);
        for name in rest {
            found = found
                .into_iter()
                .flat_map(|target| self.next(target, name, open))
                .collect();
        }
        found
    }

    fn first(&self, from: ModuleId, name: &'s str, open: &mut Open<'s>) -> BTreeSet<Target> {
        let module = match name {
            // In a macro, `$crate` is `crate` behind a mark.
            "crate" => Some(0),
            "self" => Some(from),
            "super" => self.of.modules[from].parent,
            _ => return self.lookup(from, name, open),
        };
        module.map(Target::Module).into_iter().collect()
    }

    /// One step of a path; what stands in an item (a variant, a method) is the item's.
    fn next(&self, target: Target, name: &'s str, open: &mut Open<'s>) -> BTreeSet<Target> {
        let Target::Module(id) = target else {
            return BTreeSet::from([target]);
        };
        if name == "super" {
            let parent = self.of.modules[id].parent;
            return parent.map(Target::Module).into_iter().collect();
        }
        if name == "self" {
            return BTreeSet::from([target]);
        }
        let found = self.lookup(id, name, open);
        match found.is_empty() {
            // Made by a macro, perhaps.
            true if !self.is_imported(id, name) => BTreeSet::from([Target::Item(id)]),
            _ => found,
        }
    }

    /// What a module has under a name.
    fn lookup(&self, id: ModuleId, name: &'s str, open: &mut Open<'s>) -> BTreeSet<Target> {
        let mut found = BTreeSet::new();
        if !open.insert((id, name)) {
            return found;
        }
        let module = &self.of.modules[id];
        let children = module.children.get(name).into_iter().flatten();
        found.extend(children.copied().map(Target::Module));
        if module.syntax.items.iter().any(|item| item == name) {
            found.insert(Target::Item(id));
        }
        for import in &module.syntax.imports {
            if import.name == ImportName::Named(name.to_owned()) {
                found.extend(self.follow(id, &import.mention.path, open));
            }
        }
        if found.is_empty() {
            found = self.lookup_in_globs(id, name, open);
        }
        if found.is_empty() && id == 0 {
            found = self.exported_macro(name);
        }
        open.remove(&(id, name));
        found
    }

    fn lookup_in_globs(
        &self,
        id: ModuleId,
        name: &'s str,
        open: &mut Open<'s>,
    ) -> BTreeSet<Target> {
        let imports = self.of.modules[id].syntax.imports.iter();
        let mut found = BTreeSet::new();
        for import in imports.filter(|import| import.name == ImportName::Glob) {
            for target in self.follow(id, &import.mention.path, open) {
                if let Target::Module(module) = target {
                    found.extend(self.lookup(module, name, open));
                }
            }
        }
        found
    }

    fn exported_macro(&self, name: &str) -> BTreeSet<Target> {
        let modules = self.of.modules.iter().enumerate();
        let exports = modules.filter(|(_, module)| {
            let mut exported = module.syntax.exported_macros.iter();
            exported.any(|exported| exported == name)
        });
        exports.map(|(id, _)| Target::Item(id)).collect()
    }

    /// Whether a name of a module comes from another crate, or may do so.
    fn is_imported(&self, id: ModuleId, name: &str) -> bool {
        let mut imports = self.of.modules[id].syntax.imports.iter();
        imports.any(|import| import.name == ImportName::Named(name.to_owned()))
    }
}
