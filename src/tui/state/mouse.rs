//! What the mouse is in the middle of.

/// A button that is held, and the last click.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mouse {
    /// What the held button drags.
    pub drag: Drag,
    /// Column and row of the last click, while nothing else happened.
    pub clicked: Option<(u16, u16)>,
}

/// What is dragged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Drag {
    /// Nothing.
    #[default]
    None,
    /// A range over the body, from a column on.
    Range {
        /// The column of the screen where the button went down.
        column: u16,
        /// Its row.
        row: u16,
        /// The moment there.
        from_ns: u64,
        /// The pointer left the column: this is no click.
        moved: bool,
    },
    /// The view, over the minimap: so far is its start before the pointer, in ns.
    View(u64),
    /// A new view, over the minimap, from a moment on.
    NewView(u64),
    /// The cursor, over the ruler.
    Cursor,
}
