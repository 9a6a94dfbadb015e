//! What the user can ask for with a key, and who does it.

use super::Effect;
use crate::tui::scene::Window;
use crate::tui::state::{LineKind, Message, Mode, Panel, Prompt, PromptKind, State};

/// What a key asks for; [`keys::BINDINGS`](super::keys::BINDINGS) says it in words.
#[allow(missing_docs, reason = "the table of bindings describes each")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    ZoomIn,
    ZoomOut,
    PanLeft,
    PanRight,
    Fit,
    Enter,
    Whole,
    Start,
    End,
    Back,
    Forward,
    Up,
    Down,
    Previous,
    Next,
    PageUp,
    PageDown,
    Range,
    Mark,
    Escape,
    NextStep,
    PreviousStep,
    NextOutlier,
    PreviousOutlier,
    NextSame,
    PreviousSame,
    Search,
    NextHit,
    PreviousHit,
    Finder,
    Space,
    FoldAll,
    UnfoldAll,
    Depths,
    Pin,
    UnpinAll,
    Lower,
    Raise,
    Details,
    Table,
    Flame,
    Verdict,
    Cycle,
    Focus,
    Unfocus,
    PanelBack,
    PanelLeft,
    PanelRight,
    SortLeft,
    SortRight,
    Partner,
    PanelUp,
    PanelDown,
    PanelPageUp,
    PanelPageDown,
    PanelEnter,
    Command,
    Follow,
    Help,
    Redraw,
    Suspend,
    Quit,
    CloseHelp,
    HelpUp,
    HelpDown,
    HelpPageUp,
    HelpPageDown,
    Accept,
    Cancel,
    Complete,
    PromptUp,
    PromptDown,
    CursorLeft,
    CursorRight,
    CursorHome,
    CursorEnd,
    Erase,
    EraseNext,
    EraseWord,
    EraseLine,
}

impl State {
    /// Does what a key asks for.
    pub(super) fn act(&mut self, action: Action) -> Vec<Effect> {
        use Action::*;
        if !matches!(action, ZoomIn | ZoomOut | PanLeft | PanRight | Previous | Next) {
            self.history.settle();
        }
        self.message = None;
        let page = isize::from(super::areas(self).body.height.max(2) as i16 - 1);
        match action {
            ZoomIn => self.zoom(1, 2, self.cursor_ns),
            ZoomOut => self.zoom(2, 1, self.cursor_ns),
            PanLeft => self.pan(1, 5, false),
            PanRight => self.pan(1, 5, true),
            Fit => self.fit(),
            Enter => self.enter(),
            Whole => self.show_whole(),
            Start => self.go_to_start(),
            End => self.go_to_end(),
            Back if !self.go_back() => self.say("there is no view before this one"),
            Forward if !self.go_forward() => self.say("there is no view after this one"),
            Back | Forward => {}
            Up => self.move_line(-1),
            Down => self.move_line(1),
            Previous => self.step_along(false),
            Next => self.step_along(true),
            PageUp => self.move_line(-page),
            PageDown => self.move_line(page),
            Range => self.toggle_range(),
            Mark => self.toggle_mark(),
            Escape => self.escape(),
            NextStep => self.step_by(true),
            PreviousStep => self.step_by(false),
            NextOutlier => self.outlier_by(true),
            PreviousOutlier => self.outlier_by(false),
            NextSame => self.same_name(true),
            PreviousSame => self.same_name(false),
            Search => self.prompt(PromptKind::Search),
            NextHit => self.hit_by(true),
            PreviousHit => self.hit_by(false),
            Finder => self.prompt(PromptKind::Finder),
            Command => self.prompt(PromptKind::Command),
            Space => self.space(),
            FoldAll => self.fold_all(),
            UnfoldAll => self.unfold_all(),
            Depths => self.toggle_depths(),
            Pin => self.toggle_pin(),
            UnpinAll => self.unpin_all(),
            Lower => self.reorder(true),
            Raise => self.reorder(false),
            Details => self.toggle_panel(Panel::Details),
            Table => self.toggle_panel(Panel::Table),
            Flame => self.toggle_panel(Panel::Flame),
            Verdict => self.toggle_panel(Panel::Verdict),
            Cycle => self.cycle_panel(),
            Focus => self.panel_focus = self.panel != Panel::Hidden,
            Unfocus => self.panel_focus = false,
            PanelBack => self.panel_focus = self.panel_back(),
            PanelLeft => self.panel_side(false),
            PanelRight => self.panel_side(true),
            SortLeft => self.sort_panel(false),
            SortRight => self.sort_panel(true),
            Partner => self.go_to_partner(),
            PanelUp => self.move_in_panel(-1),
            PanelDown => self.move_in_panel(1),
            PanelPageUp => self.move_in_panel(-10),
            PanelPageDown => self.move_in_panel(10),
            PanelEnter => self.panel_enter(),
            Follow => self.follow(),
            Help => self.mode = Mode::Help(0),
            CloseHelp => self.mode = Mode::Browse,
            HelpUp => self.scroll_help(-1),
            HelpDown => self.scroll_help(1),
            HelpPageUp => self.scroll_help(-10),
            HelpPageDown => self.scroll_help(10),
            Redraw => return vec![Effect::Redraw],
            Suspend => return vec![Effect::Suspend],
            Quit => return vec![Effect::Quit],
            Accept => return self.accept(),
            Cancel => self.cancel(),
            Complete => self.complete(),
            PromptUp => self.recall(true),
            PromptDown => self.recall(false),
            CursorLeft | CursorRight | CursorHome | CursorEnd | Erase | EraseNext | EraseWord | EraseLine => {
                self.edit(action);
            }
        }
        Vec::new()
    }

    /// Tells something on the bottom line.
    pub fn say(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), bad: false });
    }

    /// Tells what went wrong on the bottom line.
    pub fn complain(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), bad: true });
    }

    fn prompt(&mut self, kind: PromptKind) {
        self.mode = Mode::Prompt(Prompt::new(kind));
        if kind == PromptKind::Finder {
            self.look_for_nodes();
        }
    }

    fn enter(&mut self) {
        if let Some(stretch) = self.selected.and_then(|at| self.slice_window(at)) {
            return self.fit_to(stretch);
        }
        match self.lines.get(self.line).map(|line| line.kind) {
            Some(LineKind::Header) if self.range.is_none() => self.toggle_fold(),
            Some(LineKind::Depth(..)) if self.range.is_none() => self.select_under_cursor(),
            _ => {
                if let Some(range) = self.range {
                    self.fit_to(range);
                }
            }
        }
    }

    fn toggle_range(&mut self) {
        let range = self.selected.and_then(|at| self.slice_window(at)).unwrap_or(self.view);
        self.mark = None;
        self.range = if self.range == Some(range) { None } else { Some(range) };
    }

    fn toggle_mark(&mut self) {
        if self.mark.take().is_none() {
            self.mark = Some(self.looked_at());
            self.extend_mark();
            self.say("marking: move to the other end, then v; Esc drops it");
        }
    }

    /// While a range is being marked it reaches from where it began to what is looked at.
    pub(super) fn extend_mark(&mut self) {
        if let Some(mark) = self.mark {
            let now = self.looked_at();
            self.range = Some(Window::new(mark.from_ns.min(now.from_ns), mark.to_ns.max(now.to_ns)));
        }
    }

    /// The selected slice, else the cursor's nanosecond.
    fn looked_at(&self) -> Window {
        let point = Window::new(self.cursor_ns, self.cursor_ns.saturating_add(1));
        self.selected.and_then(|at| self.slice_window(at)).unwrap_or(point)
    }

    fn escape(&mut self) {
        if self.mark.take().is_some() {
            self.range = None;
        } else if self.selected.take().is_none() && self.range.take().is_none() {
            self.drop_search();
        }
    }

    fn space(&mut self) {
        match &mut self.live {
            Some(live) if !live.ended => {
                live.follows = !live.follows;
                if live.follows {
                    self.follow();
                } else {
                    self.say("frozen; the capture goes on. Space or L follows it again");
                }
            }
            _ => self.toggle_fold(),
        }
    }

    fn toggle_panel(&mut self, panel: Panel) {
        self.panel = if self.panel == panel && panel != Panel::Details { Panel::Details } else { panel };
        self.panel_row = 0;
        // The verdict is there to jump from.
        self.panel_focus = self.panel == Panel::Verdict;
    }

    fn cycle_panel(&mut self) {
        self.panel = match self.panel {
            Panel::Details => Panel::Table,
            Panel::Table => Panel::Flame,
            Panel::Flame => Panel::Verdict,
            Panel::Verdict => Panel::Hidden,
            Panel::Hidden => Panel::Details,
        };
        self.panel_row = 0;
        self.panel_focus &= self.panel != Panel::Hidden;
    }

    pub(super) fn move_in_panel(&mut self, by: isize) {
        let last = self.panel_rows().saturating_sub(1);
        self.panel_row = self.panel_row.saturating_add_signed(by).min(last);
    }

    pub(super) fn scroll_help(&mut self, by: i16) {
        let size = self.size;
        if let Mode::Help(down) = &mut self.mode {
            let most = crate::tui::view::help_end(size);
            *down = down.saturating_add_signed(by).min(most);
        }
    }
}
