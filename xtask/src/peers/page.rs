//! Tables between two marks of a document, so that text of people stays around them.

use std::fs;

use crate::say;
use crate::steps::root;

/// Puts a table in its place in a document. True if that worked.
pub(crate) fn write(name: &str, mark: &str, table: &str) -> bool {
    let path = root().join(name);
    let done = fs::read_to_string(&path)
        .map_err(|error| error.to_string())
        .and_then(|text| place(&text, mark, table))
        .and_then(|text| fs::write(&path, text).map_err(|error| error.to_string()));
    if let Err(why) = &done {
        say::line(format_args!("the table is not in {name}: {why}"));
    }
    done.is_ok()
}

/// The text with another table between its marks.
fn place(text: &str, mark: &str, table: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- {mark} -->"), format!("<!-- end of {mark} -->"));
    let (before, rest) = text
        .split_once(&begin)
        .ok_or_else(|| format!("it has no {begin}"))?;
    let (_, after) = rest.split_once(&end).ok_or_else(|| format!("it has no {end}"))?;
    Ok(format!("{before}{begin}\n\n{table}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_one_before_and_the_text_around_stays() {
        let text = "a\n<!-- m -->\nold\n<!-- end of m -->\nz\n";
        let placed = place(text, "m", "new\n").unwrap();
        assert_eq!(placed, "a\n<!-- m -->\n\nnew\n\n<!-- end of m -->\nz\n");
        assert!(place(&placed, "m", "newer\n").unwrap().contains("\nnewer\n"));
    }

    #[test]
    fn a_text_without_marks_is_left_alone() {
        assert!(place("a", "m", "t").unwrap_err().contains("<!-- m -->"));
    }
}
