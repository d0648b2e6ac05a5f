//! A file's text as tidy sees it: what its modules define, import and mention. Test code is left
//! out, but for the names of its modules.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, Meta, UseTree};

/// A module's own syntax: a file, or a `mod` with a body.
#[derive(Debug, Default)]
pub(super) struct ModuleSyntax {
    /// Names that the module defines.
    pub(super) items: Vec<String>,
    /// Macros that `#[macro_export]` puts at the crate's root.
    pub(super) exported_macros: Vec<String>,
    pub(super) imports: Vec<Import>,
    /// Paths in code.
    pub(super) mentions: Vec<Mention>,
    pub(super) children: Vec<Child>,
}

/// One name that a `use` brings in.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) mention: Mention,
    pub(super) name: ImportName,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ImportName {
    Named(String),
    Glob,
}

/// A path, as it is written.
#[derive(Debug, Clone)]
pub(super) struct Mention {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

/// A `mod` inside a module.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) name: String,
    pub(super) line: usize,
    /// Under `cfg(test)`.
    pub(super) is_test: bool,
    /// The value of `#[path]`.
    pub(super) path: Option<String>,
    /// None: a file of its own.
    pub(super) body: Option<ModuleSyntax>,
}

/// Parses a file.
pub(super) fn parse(text: &str) -> syn::Result<ModuleSyntax> {
    let file = syn::parse_file(text)?;
    let mut module = ModuleSyntax::default();
    if !file.attrs.iter().any(is_test) {
        file.items.iter().for_each(|item| module.visit_item(item));
    }
    Ok(module)
}

impl ModuleSyntax {
    fn mention(&mut self, path: Vec<String>, span: Span) {
        let line = span.start().line;
        self.mentions.push(Mention { path, line });
    }

    fn child(&mut self, item: &syn::ItemMod, is_test: bool) {
        let body = item.content.as_ref().map(|(_, items)| {
            let mut body = Self::default();
            if !is_test {
                items.iter().for_each(|item| body.visit_item(item));
            }
            body
        });
        self.children.push(Child {
            name: item.ident.to_string(),
            line: item.ident.span().start().line,
            is_test,
            path: item.attrs.iter().find_map(path_value),
            body,
        });
    }

    fn import(&mut self, prefix: &[String], tree: &UseTree) {
        let mut path = prefix.to_vec();
        let (ident, name, span) = match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                return self.import(&path, &tree.tree);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(&path, tree));
            }
            UseTree::Glob(glob) => (None, ImportName::Glob, glob.star_token.spans[0]),
            UseTree::Name(tree) => {
                let name = match (tree.ident == "self", path.last()) {
                    (true, Some(last)) => last.clone(),
                    _ => tree.ident.to_string(),
                };
                let ident = tree.ident.to_string();
                (Some(ident), ImportName::Named(name), tree.ident.span())
            }
            UseTree::Rename(tree) => {
                let name = ImportName::Named(tree.rename.to_string());
                (Some(tree.ident.to_string()), name, tree.ident.span())
            }
        };
        path.extend(ident.filter(|ident| ident != "self" || path.is_empty()));
        let line = span.start().line;
        let mention = Mention { path, line };
        self.imports.push(Import { mention, name });
    }

    /// Paths in the tokens of a macro or an attribute, of which no grammar is known.
    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            let (path, end) = path_at(&tokens, at);
            match &tokens[at] {
                TokenTree::Group(group) => self.scan(group.stream()),
                first if !path.is_empty() => {
                    let called = tokens.get(end).is_some_and(is_called);
                    if path.len() > 1 || called || is_capitalized(&path[0]) {
                        self.mention(path, first.span());
                    }
                }
                _ => {}
            }
            at = end;
        }
    }
}

/// The path that begins at a token, and where it ends; a method or field is none.
fn path_at(tokens: &[TokenTree], at: usize) -> (Vec<String>, usize) {
    let ident = |at: usize| match tokens.get(at) {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    };
    let punct = |at: usize, wanted: char| match tokens.get(at) {
        Some(TokenTree::Punct(punct)) => punct.as_char() == wanted,
        _ => false,
    };
    let is_range = at > 1 && punct(at - 2, '.');
    if at > 0 && punct(at - 1, '.') && !is_range {
        return (Vec::new(), at + 1);
    }
    let (mut path, mut end) = (Vec::new(), at);
    while let Some(name) = ident(end) {
        path.push(name);
        end += 1;
        if !(punct(end, ':') && punct(end + 1, ':') && ident(end + 2).is_some()) {
            break;
        }
        end += 2;
    }
    (path, end.max(at + 1))
}

/// Whether a name before this token is called, as a function or a macro.
fn is_called(next: &TokenTree) -> bool {
    match next {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Parenthesis,
        TokenTree::Punct(punct) => punct.as_char() == '!',
        _ => false,
    }
}

fn is_capitalized(name: &str) -> bool {
    name.starts_with(char::is_uppercase)
}

fn segments(path: &syn::Path) -> Vec<String> {
    let segments = path.segments.iter();
    segments.map(|segment| segment.ident.to_string()).collect()
}

/// Whether an attribute leaves code to tests: `cfg(test)`, also as one of `all`.
fn is_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<Meta>()
            .is_ok_and(|predicate| needs_test(&predicate))
}

fn needs_test(predicate: &Meta) -> bool {
    let Meta::List(list) = predicate else {
        return predicate.path().is_ident("test");
    };
    let inner = syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated;
    let Ok(inner) = list.parse_args_with(inner) else {
        return false;
    };
    match () {
        () if list.path.is_ident("all") => inner.iter().any(needs_test),
        () if list.path.is_ident("any") => !inner.is_empty() && inner.iter().all(needs_test),
        () => false,
    }
}

/// The value of `#[path = ".."]`.
fn path_value(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("path") => match &meta.value {
            Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Str(value),
                ..
            }) => Some(value.value()),
            _ => None,
        },
        _ => None,
    }
}

/// Visits a node unless it belongs to tests.
macro_rules! unless_test {
    ($($visit:ident: $node:ident),* $(,)?) => {$(
        fn $visit(&mut self, node: &'ast syn::$node) {
            if !node.attrs.iter().any(is_test) {
                visit::$visit(self, node);
            }
        }
    )*};
}

impl<'ast> Visit<'ast> for ModuleSyntax {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = attributes(item);
        let is_test = attributes.iter().any(is_test);
        if let Item::Mod(item) = item {
            return self.child(item, is_test);
        }
        if is_test {
            return;
        }
        if let Item::Use(item) = item {
            return self.import(&[], &item.tree);
        }
        if let Some(name) = defined(item) {
            let exported = |attribute: &Attribute| attribute.path().is_ident("macro_export");
            if attributes.iter().any(exported) {
                self.exported_macros.push(name.clone());
            }
            self.items.push(name);
        }
        visit::visit_item(self, item);
    }

    unless_test! {
        visit_arm: Arm,
        visit_expr_block: ExprBlock,
        visit_expr_macro: ExprMacro,
        visit_field: Field,
        visit_field_value: FieldValue,
        visit_impl_item_const: ImplItemConst,
        visit_impl_item_fn: ImplItemFn,
        visit_impl_item_macro: ImplItemMacro,
        visit_impl_item_type: ImplItemType,
        visit_local: Local,
        visit_stmt_macro: StmtMacro,
        visit_trait_item_const: TraitItemConst,
        visit_trait_item_fn: TraitItemFn,
        visit_trait_item_type: TraitItemType,
        visit_variant: Variant,
    }

    /// A block's own items are nothing that another file can name; its imports are taken for the
    /// module's.
    fn visit_block(&mut self, block: &'ast syn::Block) {
        let items = self.items.len();
        visit::visit_block(self, block);
        self.items.truncate(items);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = segments(path);
        // A single name in small letters is a variable, or was imported.
        if names.len() > 1 || is_capitalized(&names[0]) {
            self.mention(names, path.segments[0].ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let Expr::Path(callee) = &*call.func
            && let Some(name) = callee.path.get_ident()
        {
            self.mention(vec![name.to_string()], name.span());
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let name = &call.path.segments[0].ident;
        self.mention(segments(&call.path), name.span());
        self.scan(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.scan(list.tokens.clone());
        }
    }

    /// Who may see an item is no use of the modules that are named there.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}
}

/// An item's attributes.
fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The name that an item defines in its module.
fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}
