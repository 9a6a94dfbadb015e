//! A line being typed.

/// What a line is typed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptKind {
    /// `/`: a regular expression over names and arguments.
    Search,
    /// `:`: a command.
    Command,
    /// Ctrl-P: a track by some of its letters.
    Finder,
}

/// A line being typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// What for.
    pub kind: PromptKind,
    /// So far.
    pub text: String,
    /// Where the next character goes, in bytes of `text`, on a character's edge.
    pub at: usize,
    /// Which of the finder's hits is chosen.
    pub choice: usize,
    /// How far back in what was typed before the text was taken from; 0 for new text.
    pub recalled: usize,
    /// The new text, while an old one is looked at.
    pub draft: String,
}

/// Lines typed before, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Typed {
    /// Commands.
    pub commands: Vec<String>,
    /// Searches.
    pub searches: Vec<String>,
}

/// A line holds so many bytes: nobody types more, and a paste must end somewhere.
const LONGEST: usize = 4096;
/// So many lines are kept.
const KEPT: usize = 200;

impl Prompt {
    /// An empty line.
    pub fn new(kind: PromptKind) -> Prompt {
        Prompt { kind, text: String::new(), at: 0, choice: 0, recalled: 0, draft: String::new() }
    }

    /// Puts another text in its place.
    pub fn set(&mut self, text: impl Into<String>) {
        self.text = text.into();
        self.at = self.text.len();
    }

    /// Inserts a character; control characters stay out.
    pub fn insert(&mut self, character: char) {
        if !character.is_control() && self.text.len() < LONGEST {
            self.text.insert(self.at, character);
            self.at += character.len_utf8();
        }
    }

    /// A character back.
    pub fn left(&mut self) {
        self.at = self.before();
    }

    /// A character on.
    pub fn right(&mut self) {
        self.at = self.after();
    }

    /// Erases the character before.
    pub fn erase(&mut self) {
        let before = self.before();
        self.text.drain(before..self.at);
        self.at = before;
    }

    /// Erases the character under the cursor.
    pub fn erase_next(&mut self) {
        let after = self.after();
        self.text.drain(self.at..after);
    }

    /// Erases the word before, and the spaces behind it.
    pub fn erase_word(&mut self) {
        let before = self.text[..self.at].trim_end();
        let from = before
            .rfind(char::is_whitespace)
            .map_or(0, |space| space + before[space..].chars().next().map_or(0, char::len_utf8));
        self.text.drain(from..self.at);
        self.at = from;
    }

    /// Erases all before.
    pub fn erase_line(&mut self) {
        self.text.drain(..self.at);
        self.at = 0;
    }

    fn before(&self) -> usize {
        self.text[..self.at].char_indices().next_back().map_or(0, |(at, _)| at)
    }

    fn after(&self) -> usize {
        self.text[self.at..].chars().next().map_or(self.at, |c| self.at + c.len_utf8())
    }
}

impl Typed {
    /// The lines of a kind of prompt.
    pub fn lines(&self, kind: PromptKind) -> &[String] {
        match kind {
            PromptKind::Search => &self.searches,
            PromptKind::Command => &self.commands,
            PromptKind::Finder => &[],
        }
    }

    /// Keeps a line, as the latest.
    pub fn keep(&mut self, kind: PromptKind, text: &str) {
        let lines = match kind {
            PromptKind::Search => &mut self.searches,
            PromptKind::Command => &mut self.commands,
            PromptKind::Finder => return,
        };
        lines.retain(|line| line != text);
        lines.push(text.to_owned());
        let extra = lines.len().saturating_sub(KEPT);
        lines.drain(..extra);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Prompt {
        let mut prompt = Prompt::new(PromptKind::Search);
        text.chars().for_each(|c| prompt.insert(c));
        prompt
    }

    #[test]
    fn characters_of_many_bytes_stay_whole() {
        let mut prompt = typed("aé漢🦀");
        assert_eq!(prompt.at, prompt.text.len());
        prompt.left();
        prompt.left();
        prompt.erase();
        assert_eq!((prompt.text.as_str(), prompt.at), ("a漢🦀", 1));
        prompt.erase_next();
        assert_eq!(prompt.text, "a🦀");
        prompt.right();
        prompt.right();
        prompt.insert('ß');
        assert_eq!((prompt.text.as_str(), prompt.at), ("a🦀ß", 7));
        prompt.erase_line();
        prompt.erase();
        prompt.left();
        assert_eq!((prompt.text.as_str(), prompt.at), ("", 0));
    }

    #[test]
    fn words_are_erased_with_wide_spaces() {
        let mut prompt = typed("find\u{3000}漢字  ");
        prompt.erase_word();
        assert_eq!(prompt.text, "find\u{3000}");
        prompt.erase_word();
        assert_eq!(prompt.text, "");
    }

    #[test]
    fn control_characters_and_endless_text_stay_out() {
        let mut prompt = typed("\u{1b}[31m\n");
        assert_eq!(prompt.text, "[31m");
        (0..10_000).for_each(|_| prompt.insert('x'));
        assert_eq!(prompt.text.len(), LONGEST);
    }

    #[test]
    fn lines_are_kept_once() {
        let mut typed = Typed::default();
        for text in ["a", "b", "a"] {
            typed.keep(PromptKind::Command, text);
        }
        assert_eq!(typed.lines(PromptKind::Command), ["b", "a"]);
        assert!(typed.lines(PromptKind::Search).is_empty());
    }
}
