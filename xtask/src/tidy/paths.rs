//! Which paths a source file names, resolved: `use` trees, paths in code, in attributes and in what
//! macros are given.
//!
//! A path that begins with `crate`, `self`, `super`, or with a name that the file brings into scope
//! becomes an absolute one: `crate::engine::record::Holder`, `std::fs::read`. Code that is compiled
//! for tests only is left out: it ships to nobody, and may use what it tests with.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Spacing, Span, TokenStream, TokenTree};
use syn::{
    Attribute, Item, Meta, UseTree,
    visit::{self, Visit},
};

/// A path as the compiler would read it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// Segments; the first is a crate's name, or `crate`.
    pub path: Vec<String>,
    /// Whether all that the path holds is meant: `use std::*`.
    pub glob: bool,
    /// From 1.
    pub line: usize,
}

impl Named {
    /// Whether this path is `other`, or lies in it, or brings all of it into scope.
    pub fn reaches(&self, other: &[&str]) -> bool {
        let common = self.path.iter().zip(other).take_while(|(a, b)| a == b).count();
        common == other.len() || self.glob && common == self.path.len()
    }
}

/// What one file names and declares.
#[derive(Debug, Default)]
pub struct Names {
    /// All paths, those of `use` included; re-exports not.
    pub paths: BTreeSet<Named>,
    /// What `pub use` brings: its name in this module, and where it is from.
    pub reexports: BTreeMap<String, Named>,
    /// Public types and traits, with their lines.
    pub types: Vec<(String, usize)>,
}

/// Reads a file. `module` is its place in its crate (`["engine", "check"]`), `crates` are the names
/// that mean another crate.
pub fn names(text: &str, module: &[String], crates: &BTreeSet<String>) -> syn::Result<Names> {
    let file = syn::parse_file(text)?;
    let mut scope = Scope { module: module.to_vec(), ..Scope::default() };
    scope.visit_file(&file);
    scope.resolve_imports(crates);
    let mut reader = Reader { scope, module: module.to_vec(), crates, names: Names::default() };
    reader.visit_file(&file);
    Ok(reader.names)
}

/// What a leaf of a `use` tree says: the path, the name it gets here, whether it is `*`.
struct Leaf {
    path: Vec<String>,
    name: String,
    glob: bool,
    span: Span,
}

fn leaves(tree: &UseTree, before: &[String], all: &mut Vec<Leaf>) {
    let with = |ident: &syn::Ident| {
        let mut path = before.to_vec();
        // `use a::{self}` is a itself; `self` at the beginning stands for this module.
        if before.is_empty() || ident != "self" {
            path.push(word(ident));
        }
        path
    };
    match tree {
        UseTree::Path(p) => leaves(&p.tree, &with(&p.ident), all),
        UseTree::Name(n) => {
            let path = with(&n.ident);
            let name = path.last().cloned().unwrap_or_default();
            all.push(Leaf { path, name, glob: false, span: n.ident.span() });
        }
        UseTree::Rename(r) => all.push(Leaf {
            path: with(&r.ident),
            name: word(&r.rename),
            glob: false,
            span: r.ident.span(),
        }),
        UseTree::Glob(g) => all.push(Leaf {
            path: before.to_vec(),
            name: String::new(),
            glob: true,
            span: g.star_token.spans[0],
        }),
        UseTree::Group(g) => g.items.iter().for_each(|t| leaves(t, before, all)),
    }
}

/// An identifier without `r#`.
fn word(ident: &syn::Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}

/// Whether an item is compiled for tests only.
fn for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("test")
            || a.path().is_ident("cfg")
                && matches!(&a.meta, Meta::List(l) if l.tokens.to_string() == "test")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::ExternCrate(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::ForeignMod(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::TraitAlias(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Union(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

/// The names that a file gives to modules and imports. One scope for the whole file: a name that
/// means two things in two functions is rare enough, and then each use counts for the last.
#[derive(Default)]
struct Scope {
    module: Vec<String>,
    /// Modules that the file declares.
    modules: BTreeSet<String>,
    imports: BTreeMap<String, Vec<String>>,
}

impl<'ast> Visit<'ast> for Scope {
    fn visit_item(&mut self, item: &'ast Item) {
        if for_tests(attributes(item)) {
            return;
        }
        match item {
            Item::Mod(m) => {
                self.modules.insert(word(&m.ident));
            }
            Item::Use(u) => {
                let mut all = Vec::new();
                leaves(&u.tree, &[], &mut all);
                for leaf in all.into_iter().filter(|l| !l.glob) {
                    // `use record::Holder` says nothing of what `Holder::new` is but this.
                    if leaf.path != [leaf.name.clone()] {
                        self.imports.insert(leaf.name, leaf.path);
                    }
                }
            }
            Item::ExternCrate(e) => {
                if let Some((_, name)) = &e.rename {
                    self.imports.insert(word(name), vec![word(&e.ident)]);
                }
            }
            _ => {}
        }
        visit::visit_item(self, item);
    }
}

impl Scope {
    /// Imports by way of other imports: `use std as s; use s::fs;`.
    fn resolve_imports(&mut self, crates: &BTreeSet<String>) {
        for _ in 0..4 {
            let now = self.imports.clone();
            for (name, path) in &now {
                if path.first() != Some(name)
                    && let Some(found) = self.absolute(path, &self.module, crates)
                {
                    self.imports.insert(name.clone(), found);
                }
            }
        }
    }

    /// The absolute path, or nothing where the first segment is a local name (a type, a variable).
    fn absolute(
        &self,
        path: &[String],
        module: &[String],
        crates: &BTreeSet<String>,
    ) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let own = |module: &[String], rest: &[String]| {
            let mut all = vec!["crate".to_owned()];
            all.extend_from_slice(module);
            all.extend_from_slice(rest);
            Some(all)
        };
        match first.as_str() {
            "crate" => Some(path.to_vec()),
            "self" => own(module, rest),
            "super" => {
                let ups = path.iter().take_while(|s| *s == "super").count();
                let up = module.len().checked_sub(ups)?;
                own(&module[..up], &path[ups..])
            }
            _ if self.modules.contains(first) => own(module, path),
            name => {
                if let Some(import) = self.imports.get(name) {
                    let mut all = import.clone();
                    all.extend_from_slice(rest);
                    let known = import[0] == "crate" || crates.contains(&import[0]);
                    return known.then_some(all);
                }
                crates.contains(name).then(|| path.to_vec())
            }
        }
    }
}

struct Reader<'c> {
    scope: Scope,
    /// Of the file, and of the modules within it that are being read.
    module: Vec<String>,
    crates: &'c BTreeSet<String>,
    names: Names,
}

impl Reader<'_> {
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        self.scope.absolute(path, &self.module, self.crates)
    }

    fn name(&mut self, path: &[String], glob: bool, span: Span) {
        if let Some(path) = self.absolute(path) {
            self.names.paths.insert(Named { path, glob, line: span.start().line });
        }
    }

    fn declare(&mut self, visibility: &syn::Visibility, ident: &syn::Ident) {
        if matches!(visibility, syn::Visibility::Public(_)) {
            self.names.types.push((word(ident), ident.span().start().line));
        }
    }

    /// Paths among tokens: names joined by `::`, and the names of macros that print.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let mut path = vec![word(first)];
                    while let (
                        Some(TokenTree::Punct(a)),
                        Some(TokenTree::Punct(b)),
                        Some(TokenTree::Ident(next)),
                    ) = (tokens.get(at + 1), tokens.get(at + 2), tokens.get(at + 3))
                        && a.as_char() == ':'
                        && a.spacing() == Spacing::Joint
                        && b.as_char() == ':'
                    {
                        path.push(word(next));
                        at += 3;
                    }
                    let called = matches!(tokens.get(at + 1),
                        Some(TokenTree::Punct(p)) if p.as_char() == '!');
                    if called {
                        self.called(&path, first.span());
                    } else if path.len() > 1 {
                        self.name(&path, false, first.span());
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// A macro that is called: those that print are named as `std` names them.
    fn called(&mut self, path: &[String], span: Span) {
        if let [name] = path
            && PRINTING.contains(&name.as_str())
        {
            self.name(&["std".to_owned(), name.clone()], false, span);
        } else if path.len() > 1 {
            self.name(path, false, span);
        }
    }
}

const PRINTING: &[&str] = &["println", "print", "eprintln", "eprint", "dbg"];

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if for_tests(attributes(item)) {
            return;
        }
        match item {
            Item::Struct(i) => self.declare(&i.vis, &i.ident),
            Item::Enum(i) => self.declare(&i.vis, &i.ident),
            Item::Union(i) => self.declare(&i.vis, &i.ident),
            Item::Trait(i) => self.declare(&i.vis, &i.ident),
            Item::Type(i) => self.declare(&i.vis, &i.ident),
            Item::ExternCrate(e) => self.name(&[word(&e.ident)], false, e.ident.span()),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(word(&module.ident));
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut all = Vec::new();
        leaves(&item.tree, &[], &mut all);
        for leaf in all {
            // `use ::std::fs` and `use std::fs` mean the same here.
            let public = !matches!(item.vis, syn::Visibility::Inherited);
            match self.absolute(&leaf.path) {
                Some(path) if public && !leaf.glob && path[0] == "crate" => {
                    let line = leaf.span.start().line;
                    self.names.reexports.insert(leaf.name, Named { path, glob: false, line });
                }
                _ => self.name(&leaf.path, leaf.glob, leaf.span),
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| word(&s.ident)).collect();
        // A single name is a local one, or an import that its `use` has named already.
        if segments.len() > 1
            && let Some(first) = path.segments.first()
        {
            self.name(&segments, false, first.ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let path: Vec<String> = call.path.segments.iter().map(|s| word(&s.ident)).collect();
        if let Some(first) = call.path.segments.first() {
            self.called(&path, first.ident.span());
        }
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            Meta::List(list) => {
                self.tokens(list.tokens.clone());
                self.strings(&list.tokens);
            }
            Meta::Path(_) | Meta::NameValue(_) => {}
        }
        visit::visit_path(self, attribute.path());
    }
}

impl Reader<'_> {
    /// Attributes give paths as text, too: `#[serde(with = "crate::view::text")]`.
    fn strings(&mut self, tokens: &TokenStream) {
        for token in tokens.clone() {
            match token {
                TokenTree::Group(group) => self.strings(&group.stream()),
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    let path = syn::parse_str::<syn::Path>(text.trim_matches('"'));
                    if let Ok(path) = path
                        && path.segments.len() > 1
                    {
                        let path: Vec<_> = path.segments.iter().map(|s| word(&s.ident)).collect();
                        self.name(&path, false, literal.span());
                    }
                }
                _ => {}
            }
        }
    }
}
