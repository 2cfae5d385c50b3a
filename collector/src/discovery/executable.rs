//! What an ELF file says of its functions: where in the file they begin.

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// File offsets of the named functions, among the dynamic symbols and, where there are any, the local ones.
///
/// The kernel places a probe by file offset: symbol address - section address + section offset.
///
/// # Errors
/// The bytes are not an ELF file that can be read.
pub fn function_offsets<'a>(
    bytes: &[u8],
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<Vec<(&'a str, u64)>, object::Error> {
    let file = object::File::parse(bytes)?;
    let mut found: Vec<(&str, u64)> = Vec::new();
    for symbol in file.dynamic_symbols().chain(file.symbols()) {
        if symbol.is_undefined() || symbol.kind() != SymbolKind::Text {
            continue;
        }
        let Ok(name) = symbol.name() else { continue };
        let Some(wanted) = names.clone().find(|wanted| *wanted == name) else { continue };
        if found.iter().any(|(known, _)| *known == wanted) {
            continue;
        }
        let Some(section) = symbol.section_index().and_then(|index| file.section_by_index(index).ok()) else {
            continue;
        };
        let Some((start, _)) = section.file_range() else { continue };
        if let Some(inside) = symbol.address().checked_sub(section.address()) {
            found.push((wanted, start + inside));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_functions_are_found_and_rubbish_is_refused() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let found = function_offsets(&bytes, ["main", "no_such_function"].into_iter()).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].1 > 0 && found[0].1 < bytes.len() as u64);
        assert!(function_offsets(b"\x7fELF rubbish", ["main"].into_iter()).is_err());
        assert!(function_offsets(b"", ["main"].into_iter()).is_err());
    }
}
