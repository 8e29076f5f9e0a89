//! The floor plan: data goes down the list of rooms, imports go up it, and no files import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// The rooms under src/, in the order of docs/ARCHITECTURE.md: a file imports from its own room and from those before
/// it.
const ROOMS: [&str; 13] = [
    "error",
    "spec",
    "reference",
    "layout",
    "kernels",
    "gpu",
    "report",
    "plan",
    "step",
    "burn",
    "host",
    "testing",
    "tuning",
];

/// A module's path within the crate; the root's is empty.
type Module = Vec<String>;

/// A module: its file, what it defines, and what it imports under which name.
#[derive(Default)]
struct Content {
    file: PathBuf,
    items: BTreeSet<String>,
    uses: Vec<Use>,
    /// Paths in code.
    paths: Vec<Vec<String>>,
}

/// An import: its path, and its name in this module; `*` for a glob.
struct Use {
    path: Vec<String>,
    name: String,
}

#[derive(Default)]
struct Crate {
    modules: BTreeMap<Module, Content>,
}

impl Crate {
    fn read(root: &Path) -> Self {
        let mut all = Self::default();
        all.file(root, &Vec::new(), "lib.rs");
        all
    }

    fn file(&mut self, root: &Path, module: &Module, file: &str) {
        let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        self.items(root, module, Path::new(file), &parsed.items);
    }

    fn items(&mut self, root: &Path, module: &Module, file: &Path, items: &[syn::Item]) {
        file.clone_into(&mut self.modules.entry(module.clone()).or_default().file);
        for item in items {
            if attributes(item).iter().any(is_for_tests) {
                continue;
            }
            let content = self.modules.get_mut(module).expect("entered");
            content.paths.extend(Paths::of(item));
            match item {
                syn::Item::Use(item) => tree(&item.tree, &[], &mut content.uses),
                syn::Item::Mod(item) => {
                    let child: Module = module.iter().cloned().chain([item.ident.to_string()]).collect();
                    if let Some((_, items)) = &item.content {
                        self.items(root, &child, file, items);
                    } else {
                        let path = child.join("/");
                        let own = format!("{path}.rs");
                        let found = if root.join(&own).exists() { own } else { format!("{path}/mod.rs") };
                        self.file(root, &child, &found);
                    }
                }
                // what a macro makes bears a name that stands in it, or in its call
                syn::Item::Macro(item) => identifiers(item.mac.tokens.clone(), &mut content.items),
                _ => content.items.extend(name(item)),
            }
        }
    }

    /// The file that defines what a path in a module refers to; `None` for another crate's.
    fn origin(&self, from: &Module, path: &[String]) -> Result<Option<PathBuf>, String> {
        let mut at = match path[0].as_str() {
            "crate" => Module::new(),
            "self" | "super" => from.clone(),
            first if self.modules.contains_key(&with(from, first)) => from.clone(),
            _ => return Ok(None),
        };
        let mut rest = path;
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => _ = at.pop(),
                "*" => return Ok(Some(self.modules[&at].file.clone())),
                name if self.modules.contains_key(&with(&at, name)) => at = with(&at, name),
                name => return self.named(&at, name).map(Some),
            }
            rest = others;
        }
        // a module itself: its file
        Ok(Some(self.modules[&at].file.clone()))
    }

    /// The file that defines a name of a module: its own, or that of a re-export.
    fn named(&self, module: &Module, name: &str) -> Result<PathBuf, String> {
        let content = &self.modules[module];
        if content.items.contains(name) {
            return Ok(content.file.clone());
        }
        let unknown = || format!("{}: nothing is {name}", content.file.display());
        let by_name = content.uses.iter().find(|import| import.name == name);
        let import = by_name.ok_or_else(unknown)?;
        // another crate's, re-exported here
        Ok(self.origin(module, &import.path)?.unwrap_or_else(|| content.file.clone()))
    }

    /// Which files each file imports from, and by which path.
    fn imports(&self) -> Result<BTreeMap<PathBuf, BTreeMap<PathBuf, String>>, String> {
        let mut all: BTreeMap<PathBuf, BTreeMap<PathBuf, String>> = BTreeMap::new();
        for (module, content) in &self.modules {
            let from = all.entry(content.file.clone()).or_default();
            let uses = content.uses.iter().map(|import| &import.path);
            for path in uses.chain(&content.paths) {
                let origin = self
                    .origin(module, path)
                    .map_err(|problem| format!("{}: {}: {problem}", content.file.display(), path.join("::")))?;
                if let Some(origin) = origin.filter(|origin| *origin != content.file) {
                    from.entry(origin).or_insert_with(|| path.join("::"));
                }
            }
        }
        Ok(all)
    }
}

fn with(module: &Module, name: &str) -> Module {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether an attribute is `#[cfg(test)]`. Items of features are checked.
fn is_for_tests(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    list.path.is_ident("cfg") && list.tokens.to_string() == "test"
}

fn tree(tree: &syn::UseTree, before: &[String], uses: &mut Vec<Use>) {
    let with = |name: &dyn ToString| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
    match tree {
        syn::UseTree::Path(path) => self::tree(&path.tree, &with(&path.ident), uses),
        syn::UseTree::Name(name) if name.ident == "self" => {
            uses.push(Use { path: before.to_vec(), name: before.last().expect("a module").clone() });
        }
        syn::UseTree::Name(name) => uses.push(Use { path: with(&name.ident), name: name.ident.to_string() }),
        syn::UseTree::Rename(rename) => uses.push(Use { path: with(&rename.ident), name: rename.rename.to_string() }),
        syn::UseTree::Glob(_) => uses.push(Use { path: with(&"*"), name: "*".to_owned() }),
        syn::UseTree::Group(group) => group.items.iter().for_each(|item| self::tree(item, before, uses)),
    }
}

fn identifiers(tokens: proc_macro2::TokenStream, all: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            proc_macro2::TokenTree::Ident(name) => _ = all.insert(name.to_string()),
            proc_macro2::TokenTree::Group(group) => identifiers(group.stream(), all),
            _ => {}
        }
    }
}

fn name(item: &syn::Item) -> Option<String> {
    Some(match item {
        syn::Item::Struct(item) => item.ident.to_string(),
        syn::Item::Enum(item) => item.ident.to_string(),
        syn::Item::Fn(item) => item.sig.ident.to_string(),
        syn::Item::Const(item) => item.ident.to_string(),
        syn::Item::Static(item) => item.ident.to_string(),
        syn::Item::Type(item) => item.ident.to_string(),
        syn::Item::Trait(item) => item.ident.to_string(),
        _ => return None,
    })
}

/// Paths in code.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl Paths {
    fn of(item: &syn::Item) -> Vec<Vec<String>> {
        let mut paths = Self::default();
        if !matches!(item, syn::Item::Use(_) | syn::Item::Mod(_)) {
            paths.visit_item(item);
        }
        paths.0
    }
}

impl<'a> Visit<'a> for Paths {
    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        // also those from a module that stands here: `groups::Group`
        if segments.len() > 1 {
            self.0.push(segments);
        }
        syn::visit::visit_path(self, path);
    }

    // `pub(crate)` is no import
    fn visit_vis_restricted(&mut self, _: &'a syn::VisRestricted) {}

    // nor are those of a test
    fn visit_item_mod(&mut self, _: &'a syn::ItemMod) {}
}

fn room(file: &Path) -> usize {
    let first = file.iter().next().expect("a name").to_string_lossy();
    let name = first.trim_end_matches(".rs");
    ROOMS.iter().position(|room| *room == name).unwrap_or_else(|| panic!("{}: in no room", file.display()))
}

/// A chain of imports from a file back to itself.
fn circle(imports: &BTreeMap<PathBuf, BTreeMap<PathBuf, String>>) -> Option<Vec<PathBuf>> {
    fn walk<'a>(
        at: &'a PathBuf,
        way: &mut Vec<&'a PathBuf>,
        done: &mut BTreeSet<&'a PathBuf>,
        imports: &'a BTreeMap<PathBuf, BTreeMap<PathBuf, String>>,
    ) -> Option<Vec<PathBuf>> {
        if let Some(begin) = way.iter().position(|file| *file == at) {
            return Some(way[begin..].iter().copied().cloned().chain([at.clone()]).collect());
        }
        if !done.insert(at) {
            return None;
        }
        way.push(at);
        let found = imports.get(at).into_iter().flat_map(BTreeMap::keys).find_map(|to| walk(to, way, done, imports));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|file| walk(file, &mut Vec::new(), &mut done, imports))
}

fn house(root: &Path) -> Result<usize, String> {
    let mut imports = Crate::read(root).imports()?;
    let exports = imports.remove(Path::new("lib.rs")).unwrap_or_default();
    assert!(exports.len() > 10, "lib.rs exports what the rooms define");
    for (file, from) in &imports {
        for (origin, path) in from {
            if origin == Path::new("lib.rs") {
                return Err(format!("{}: {path} is taken through lib.rs", file.display()));
            }
            if room(origin) > room(file) {
                return Err(format!("{}: {path} stands in a later room, {}", file.display(), origin.display()));
            }
        }
    }
    if let Some(circle) = circle(&imports) {
        let circle: Vec<_> = circle.iter().map(|file| file.display().to_string()).collect();
        return Err(format!("a circle: {}", circle.join(" → ")));
    }
    Ok(imports.values().map(BTreeMap::len).sum())
}

#[test]
fn no_file_imports_from_a_later_room_and_no_files_import_in_a_circle() {
    let imports =
        house(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap_or_else(|problem| panic!("{problem}"));
    println!("{imports} imports between files, all upwards");
    assert!(imports > 100, "{imports}");
}

/// The check finds mistakes: each of these crates has one.
#[test]
fn a_wrong_house_is_refused() {
    let folder = std::env::temp_dir().join(format!("segloss-house-{}", std::process::id()));
    let wrong = |name: &str, spec: &str, plan: &str| {
        let root = folder.join(name);
        fs::create_dir_all(root.join("spec")).expect("a folder");
        let rooms = "pub mod error { pub struct A; } mod spec; mod plan;";
        fs::write(root.join("lib.rs"), rooms).expect("written");
        fs::write(root.join("spec/mod.rs"), spec).expect("written");
        fs::write(root.join("spec/head.rs"), "pub struct Head; use super::Loss;").expect("written");
        fs::write(root.join("plan.rs"), plan).expect("written");
        let found = Crate::read(&root).imports().and_then(|mut imports| {
            imports.remove(Path::new("lib.rs"));
            let later = imports.iter().find_map(|(file, from)| {
                from.keys().find(|origin| room(origin) > room(file)).map(|origin| format!("later {}", origin.display()))
            });
            later.or_else(|| circle(&imports).map(|_| "a circle".to_owned())).map_or(Ok(()), Err)
        });
        found.expect_err(name)
    };
    let later = wrong("later", "mod head; pub struct Loss; fn f(_: crate::plan::Plan) {}", "pub struct Plan;");
    assert_eq!(later, "later plan.rs");
    let circle = wrong("circle", "mod head; pub struct Loss; pub use head::Head;", "pub struct Plan;");
    assert_eq!(circle, "a circle");
    let unknown = wrong("unknown", "mod head; pub struct Loss;", "use crate::spec::Lost;");
    assert!(unknown.contains("nothing is Lost"), "{unknown}");
    fs::remove_dir_all(folder).expect("removed");
}
