//! Words in pictures: how long a time is, how wide a text, how it is cut and how it is escaped for each format.

use downbeat_workflow::text::visible;

/// `340 ms`, `2.4 s`, `15 min`, `3 min 05 s`, `2 h 10 min`: as short as it can be said.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 if ms % 1_000 < 100 => format!("{} s", ms / 1_000),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 if ms % 60_000 < 1_000 => format!("{} min", ms / 60_000),
        60_000..3_600_000 => format!("{} min {:02} s", ms / 60_000, ms % 60_000 / 1_000),
        _ if ms % 3_600_000 < 60_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} h {:02} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// Without line feeds and without what could hide or reorder it.
pub(crate) fn in_one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    visible(&words.join(" "), false).into_owned()
}

/// About how wide a text is, in units of the font's size. Fonts differ; this is that of DejaVu Sans, one of the widest, so
/// that a text fits its box in all of them.
pub(crate) fn width(text: &str) -> f64 {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | 'I' | '|' | '.' | ',' | ':' | ';' | '\'' | '!' => 0.32,
        ' ' | 'f' | 'r' | 't' | '(' | ')' | '[' | ']' | '{' | '}' | '/' | '-' => 0.40,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '&' => 0.97,
        'A'..='Z' | '=' | '<' | '>' | '+' | '~' => 0.74,
        ' '..='~' => 0.62,
        // Scripts whose characters are as wide as they are high, and pictures.
        '\u{1100}'.. => 1.05,
        _ => 0.70,
    }
}

/// A text that is not wider than this, with an ellipsis where something was left out.
pub(crate) fn cut(text: &str, room: f64) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut left = room - char_width('…');
    let fits = |c: &char| {
        left -= char_width(*c);
        left >= 0.0
    };
    let kept: String = text.chars().take_while(fits).collect();
    format!("{}…", kept.trim_end())
}

/// A text in lines that are not wider than this; a word that is wider has a line of its own.
pub(crate) fn wrap(text: &str, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + width(word) + char_width(' ') <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// For text and attributes of XML.
pub(crate) fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // No character of XML 1.0.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_short_as_they_can_be_said() {
        let said = [0, 999, 1_000, 2_450, 59_999, 60_000, 185_000, 900_000, 3_600_000, 7_800_000].map(duration);
        let expected =
            ["0 ms", "999 ms", "1 s", "2.4 s", "59.9 s", "1 min", "3 min 05 s", "15 min", "1 h", "2 h 10 min"];
        assert_eq!(said, expected);
    }

    #[test]
    fn what_is_cut_ends_in_an_ellipsis_and_fits() {
        assert_eq!(cut("short", 10.0), "short");
        let text = cut("a rather long name of a step", 8.0);
        assert!(text.ends_with('…') && width(&text) <= 8.0, "{text}");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two three", 6.0), ["one two", "three"]);
        assert_eq!(wrap("incomprehensibilities all", 3.0), ["incomprehensibilities", "all"]);
    }

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(xml("<a href=\"x\">&\u{1b}"), "&lt;a href=&quot;x&quot;&gt;&amp;\u{fffd}");
        assert_eq!(in_one_line("a\n  b\u{202e}c"), "a b\\u{202e}c");
    }
}
