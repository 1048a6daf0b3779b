//! From text to expression: bounded, parsed by the `cel` crate, and lowered to a small tree in which every name is
//! known and every part knows its place in the text.
//!
//! What can run away is refused here (size, nesting, loops within loops); what depends on values is bounded in
//! `evaluate.rs`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr as Cel, IdedExpr, LiteralValue, SourceInfo, operators};
use serde_json::Value;

use super::function::{FUNCTIONS, Function};
use super::scan::{Token, TokenKind, Tokens};
use crate::diagnostic::did_you_mean;

/// The longest expression, in bytes. 4 KiB: forty full lines, far more than a rule that anybody can understand.
pub const EXPRESSION_BYTES_MAX: usize = 4 << 10;

/// The most tokens in an expression (names, operators, literals). 512: forty comparisons.
pub const EXPRESSION_TOKENS_MAX: usize = 512;

/// The most links of the chains around any place of an expression: `a + b + c` has two, `a.b[c].d()` three; `&&`, `||`,
/// `,` and `? :` end a chain. 64: the parser recurses over chains and takes some 6 KiB of stack a link, which then fit
/// into a stack of 1 MiB.
pub const EXPRESSION_CHAIN_MAX: usize = 64;

/// How deeply brackets and `? :` may nest. 16: the parser takes some ten calls a level; people read about four.
pub const EXPRESSION_NESTING_MAX: usize = 16;

/// How deeply loops (`all`, `exists`, `exists_one`, `filter`, `map`) may nest. 2: each level multiplies the work, and a
/// comparison of each with each needs two.
pub const LOOP_NESTING_MAX: usize = 2;

/// The names that expressions start from.
const ROOTS: &[&str] =
    &["inputs", "steps", "run", "workflow", "secrets", "item", "index", "previous", "outer", "items"];

pub(super) const LOOPS: &[&str] = &["all", "exists", "exists_one", "filter", "map"];

/// What other languages call functions of ours.
const ELSEWHERE: &[(&str, &str)] = &[
    ("length", "size"),
    ("len", "size"),
    ("count", "size"),
    ("lower", "lowerAscii"),
    ("upper", "upperAscii"),
    ("strip", "trim"),
    ("includes", "contains"),
    ("some", "exists"),
    ("any", "exists"),
    ("every", "all"),
    ("float", "double"),
    ("number", "double"),
    ("str", "string"),
    ("toString", "string"),
    ("text", "string"),
    ("exist", "exists"),
    ("defined", "has"),
];

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// Where in the expression's text.
    pub(crate) span: Range<usize>,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) label: String,
    pub(crate) hint: Option<String>,
    pub(crate) is_doubt: bool,
}

impl Fault {
    pub(super) fn new(code: &'static str, span: Range<usize>, message: impl Into<String>) -> Fault {
        Fault { span, code, message: message.into(), label: String::new(), hint: None, is_doubt: false }
    }

    /// It may come out well: a warning.
    pub(super) fn doubt(mut self) -> Fault {
        self.is_doubt = true;
        self
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Fault {
        self.label = label.into();
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn maybe_hint(mut self, hint: Option<String>) -> Fault {
        self.hint = hint;
        self
    }
}

/// A compiled expression. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Expression(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    text: Box<str>,
    root: Expr,
}

/// A part of an expression.
#[derive(Debug)]
pub(super) struct Expr {
    /// Where in the text.
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Literal(Value),
    List(Vec<Expr>),
    Object(Vec<(Expr, Expr)>),
    /// `inputs`.
    Inputs,
    /// `run`.
    Run,
    /// `workflow`.
    Workflow,
    /// `item`, `index`, `previous` or `items`; behind so many `outer`.
    Local(Local, u8),
    /// `steps.NAME`.
    Step(Box<str>),
    /// `secrets.NAME`: the text that stands for it.
    Secret(Box<str>),
    /// The variable of the loop so many levels out.
    Variable(usize),
    /// `x.name` or `x["name"]`.
    Member(Box<Expr>, Box<str>),
    /// `x[y]`.
    Index(Box<Expr>, Box<Expr>),
    /// `has(x.name)`: the operand is the member.
    Has(Box<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    If(Box<[Expr; 3]>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Call(&'static Function, Vec<Expr>),
    Loop(Box<Loop>),
}

/// What only the steps of an item or a round see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// `item`: of the list, the one that this is about.
    Item,
    /// `index`: of the item or the round, from 0.
    Index,
    /// `previous`: what the round before answered; null in the first.
    Previous,
    /// `items`: of a list that is worked on, what has become of those that have ended.
    Items,
}

impl Local {
    /// The word for it in rules.
    pub fn name(self) -> &'static str {
        match self {
            Local::Item => "item",
            Local::Index => "index",
            Local::Previous => "previous",
            Local::Items => "items",
        }
    }

    /// The same of what is so many items or rounds further out.
    pub(super) fn path(self, outer: u8) -> String {
        "outer.".repeat(outer.into()) + self.name()
    }

    fn named(name: &str) -> Option<Local> {
        let all = [Local::Item, Local::Index, Local::Previous, Local::Items];
        all.into_iter().find(|local| local.name() == name)
    }
}

/// `over.map(x, keep, body)` and its like.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) kind: LoopKind,
    pub(super) over: Expr,
    pub(super) keep: Option<Expr>,
    pub(super) body: Expr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoopKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

impl Operator {
    pub(super) fn sign(self) -> &'static str {
        match self {
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::Remainder => "%",
            Operator::Equal => "==",
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::In => "in",
        }
    }

    fn of(function: &str) -> Option<Operator> {
        Some(match function {
            operators::ADD => Operator::Add,
            operators::SUBSTRACT => Operator::Subtract,
            operators::MULTIPLY => Operator::Multiply,
            operators::DIVIDE => Operator::Divide,
            operators::MODULO => Operator::Remainder,
            operators::EQUALS => Operator::Equal,
            operators::NOT_EQUALS => Operator::NotEqual,
            operators::LESS => Operator::Less,
            operators::LESS_EQUALS => Operator::LessOrEqual,
            operators::GREATER => Operator::Greater,
            operators::GREATER_EQUALS => Operator::GreaterOrEqual,
            operators::IN => Operator::In,
            _ => return None,
        })
    }
}

impl Expression {
    /// Compiles a text, or says everything that is wrong with it.
    pub(crate) fn compile(text: &str) -> Result<Expression, Vec<Fault>> {
        // Holes are nearly always plain paths: a parser of twenty lines is a hundred times faster there.
        let root = match path(text) {
            Some(root) => root,
            None => parsed(text)?,
        };
        Ok(Expression(Arc::new(Compiled { text: text.into(), root })))
    }

    /// The text.
    pub(crate) fn text(&self) -> &str {
        &self.0.text
    }

    pub(super) fn root(&self) -> &Expr {
        &self.0.root
    }

    /// The step, if it is `steps.NAME.output` and nothing else.
    pub(super) fn whole_output(&self) -> Option<&str> {
        match &self.root().kind {
            Kind::Member(of, member) if &**member == "output" => match &of.kind {
                Kind::Step(name) => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// The step, if it is `steps.NAME.items` and nothing else.
    pub(crate) fn whole_items(&self) -> Option<&str> {
        match &self.root().kind {
            Kind::Member(of, member) if &**member == "items" => match &of.kind {
                Kind::Step(name) => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// The longest paths in it, from a root, with constant names; in the order in which they appear.
    pub(super) fn paths(&self) -> Vec<&Expr> {
        let mut paths = Vec::new();
        self.root().collect_paths(&mut paths);
        paths.sort_by_key(|path| path.span.start);
        paths
    }

    /// Whether a part of it is known to runs alone (`run`, a secret's placeholder), and whether one is `has(…)`.
    pub(super) fn asks(&self) -> (bool, bool) {
        let any = |is: &dyn Fn(&Kind) -> bool| self.root().any(is);
        (any(&|kind| matches!(kind, Kind::Run | Kind::Secret(_))), any(&|kind| matches!(kind, Kind::Has(_))))
    }

    /// The inputs and steps that it mentions.
    pub(crate) fn mentions(&self) -> impl Iterator<Item = Mention<'_>> {
        self.paths().into_iter().filter_map(Expr::mention)
    }
}

/// What an expression looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mention<'a> {
    /// `inputs.NAME`.
    Input(&'a str),
    /// `inputs` as a whole.
    AllInputs,
    /// `steps.NAME`.
    Step(&'a str),
    /// `secrets.NAME`.
    Secret(&'a str),
}

impl Expr {
    pub(super) fn is_path(&self) -> bool {
        match &self.kind {
            Kind::Inputs | Kind::Run | Kind::Workflow | Kind::Local(..) | Kind::Step(_) | Kind::Secret(_) => true,
            Kind::Member(of, _) => of.is_path(),
            Kind::Index(of, index) => of.is_path() && matches!(index.kind, Kind::Literal(_)),
            _ => false,
        }
    }

    fn mention(&self) -> Option<Mention<'_>> {
        match &self.kind {
            Kind::Inputs => Some(Mention::AllInputs),
            Kind::Step(name) => Some(Mention::Step(name)),
            Kind::Secret(name) => Some(Mention::Secret(name)),
            Kind::Member(of, name) if matches!(of.kind, Kind::Inputs) => Some(Mention::Input(name)),
            Kind::Member(of, _) | Kind::Index(of, _) => of.mention(),
            _ => None,
        }
    }

    fn collect_paths<'e>(&'e self, paths: &mut Vec<&'e Expr>) {
        match &self.kind {
            _ if self.is_path() => paths.push(self),
            _ => self.children().into_iter().for_each(|child| child.collect_paths(paths)),
        }
    }

    pub(super) fn any(&self, is: &dyn Fn(&Kind) -> bool) -> bool {
        is(&self.kind) || self.children().into_iter().any(|child| child.any(is))
    }

    fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            Kind::Literal(_)
            | Kind::Inputs
            | Kind::Run
            | Kind::Workflow
            | Kind::Local(..)
            | Kind::Step(_)
            | Kind::Secret(_)
            | Kind::Variable(_) => vec![],
            Kind::List(items) | Kind::Call(_, items) => items.iter().collect(),
            Kind::Object(entries) => entries.iter().flat_map(|(key, value)| [key, value]).collect(),
            Kind::Member(of, _) | Kind::Has(of) | Kind::Not(of) | Kind::Negate(of) => vec![of],
            Kind::Index(a, b) | Kind::And(a, b) | Kind::Or(a, b) | Kind::Binary(_, a, b) => vec![a, b],
            Kind::If(parts) => parts.iter().collect(),
            Kind::Loop(looped) => {
                let Loop { over, keep, body, .. } = looped.as_ref();
                std::iter::once(over).chain(keep).chain([body]).collect()
            }
        }
    }
}

/// A plain path such as `steps.build.output.items[0]["exit-code"]`, without the parser. `None` if it is anything else.
fn path(text: &str) -> Option<Expr> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return None;
    }
    let mut tokens = Tokens::from(text, 0).take(EXPRESSION_TOKENS_MAX + 1);
    let first = tokens.next()?;
    let mut here = Expr { span: first.span.clone(), kind: Kind::Inputs };
    // What the name behind `steps` or `secrets` makes.
    let mut wanted: Option<fn(Box<str>) -> Kind> = None;
    match &text[first.span.clone()] {
        "inputs" => (),
        "run" => here.kind = Kind::Run,
        "workflow" => here.kind = Kind::Workflow,
        "steps" => wanted = Some(Kind::Step),
        "secrets" => wanted = Some(Kind::Secret),
        name => here.kind = Kind::Local(Local::named(name)?, 0),
    }
    for count in 1.. {
        let Some(sign) = tokens.next() else { break };
        if count > EXPRESSION_CHAIN_MAX {
            return None;
        }
        let part = tokens.next()?;
        let name = &text[part.span.clone()];
        let (name, end) = match &text[sign.span.clone()] {
            "." if part.kind == TokenKind::Word => (Value::from(name), part.span.end),
            "[" => {
                let value = match part.kind {
                    TokenKind::Text if name.starts_with(['"', '\'']) && !name.contains('\\') && !is_triple(name) => {
                        Value::from(&name[1..name.len() - 1])
                    }
                    TokenKind::Number => Value::from(name.parse::<u32>().ok()?),
                    _ => return None,
                };
                let close = tokens.next()?;
                (value, (&text[close.span.clone()] == "]").then_some(close.span.end)?)
            }
            _ => return None,
        };
        let span = here.span.start..end;
        here = match name {
            Value::String(name) => match wanted.take() {
                Some(kind) => Expr { span, kind: kind(name.into()) },
                None => Expr { span, kind: Kind::Member(Box::new(here), name.into()) },
            },
            _ if wanted.is_some() => return None,
            index => {
                let index = Expr { span: part.span, kind: Kind::Literal(index) };
                Expr { span, kind: Kind::Index(Box::new(here), Box::new(index)) }
            }
        };
    }
    wanted.is_none().then_some(here)
}

/// What a name behind `steps` or `secrets` makes.
fn named_part(root: &str) -> Option<fn(Box<str>) -> Kind> {
    match root {
        "steps" => Some(Kind::Step),
        "secrets" => Some(Kind::Secret),
        _ => None,
    }
}

fn is_triple(literal: &str) -> bool {
    literal.len() >= 6 && (literal.starts_with("'''") || literal.starts_with("\"\"\""))
}

/// Through the parser.
fn parsed(text: &str) -> Result<Expr, Vec<Fault>> {
    let tokens = bounded(text).map_err(|fault| vec![fault])?;
    let (tree, info) = parse(text, &tokens).map_err(|fault| vec![fault])?;
    let mut lowering =
        Lowering { text, info, closes: closes(text, &tokens), tokens, faults: vec![], variables: vec![] };
    let root = lowering.expr(&tree);
    match lowering.faults.is_empty() {
        true => Ok(root),
        false => Err(lowering.faults),
    }
}

/// The tokens, if there are not too many and the parser has a chance.
fn bounded(text: &str) -> Result<Vec<Token>, Fault> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let message = format!("the expression has {} bytes; at most {EXPRESSION_BYTES_MAX} are allowed", text.len());
        return Err(Fault::new("rule-too-large", 0..text.len(), message).hint("compute it in a step"));
    }
    let mut tokens: Vec<Token> = Vec::new();
    let mut open: Vec<Range<usize>> = Vec::new();
    let mut conditionals = 0;
    // The links of the chain at each level of brackets.
    let mut chains = vec![0];
    for token in Tokens::from(text, 0) {
        let here = &text[token.span.clone()];
        let after_dot = tokens.last().is_some_and(|last| &text[last.span.clone()] == ".");
        let syntax = |message: &str| Fault::new("rule-syntax", token.span.clone(), message);
        match (token.kind, here) {
            (TokenKind::OpenText, _) => return Err(syntax("the string has no end").label("starts here")),
            (TokenKind::Stray, "=") => return Err(syntax("`=` does not compare").hint("write `==`")),
            (TokenKind::Stray, "&" | "|") => {
                return Err(syntax(&format!("`{here}` is no operator")).hint(format!("write `{here}{here}`")));
            }
            (TokenKind::Stray, "$") => {
                return Err(syntax("`$` has no meaning here").hint("an expression is written without `${…}` around it"));
            }
            (TokenKind::Stray, _) => return Err(syntax(&format!("`{here}` has no meaning in an expression"))),
            (TokenKind::Word, "and" | "or" | "not") if !after_dot => {
                let sign = [("and", "&&"), ("or", "||"), ("not", "!")].iter().find(|(word, _)| *word == here);
                let sign = sign.map_or("!", |(_, sign)| sign);
                return Err(syntax(&format!("`{here}` is no operator")).hint(format!("write `{sign}`")));
            }
            (TokenKind::Open, _) => {
                *chains.last_mut().expect("the outermost stays") += 1;
                chains.push(0);
                open.push(token.span.clone());
            }
            (TokenKind::Close, _) => {
                let opening = open.pop().map(|span| &text[span]);
                if !matches!((opening, here), (Some("("), ")") | (Some("["), "]") | (Some("{"), "}")) {
                    return Err(syntax(&format!("this `{here}` closes nothing")));
                }
                chains.pop();
            }
            (TokenKind::Sign, "&&" | "||" | "," | ":" | "?") => {
                conditionals += usize::from(here == "?");
                *chains.last_mut().expect("the outermost stays") = 0;
            }
            (TokenKind::Sign, _) | (TokenKind::Word, "in") => *chains.last_mut().expect("the outermost stays") += 1,
            _ => (),
        }
        tokens.push(token);
        if open.len() + conditionals > EXPRESSION_NESTING_MAX {
            let message = format!("the expression nests deeper than {EXPRESSION_NESTING_MAX} levels");
            return Err(Fault::new("rule-too-large", 0..text.len(), message).hint("compute it in a step"));
        }
        if chains.iter().sum::<usize>() > EXPRESSION_CHAIN_MAX {
            let message = format!("the expression chains more than {EXPRESSION_CHAIN_MAX} operators");
            return Err(Fault::new("rule-too-large", 0..text.len(), message).hint("compute it in a step"));
        }
        if tokens.len() > EXPRESSION_TOKENS_MAX {
            let message = format!("the expression has more than {EXPRESSION_TOKENS_MAX} names, operators and values");
            return Err(Fault::new("rule-too-large", 0..text.len(), message).hint("compute it in a step"));
        }
    }
    if let Some(span) = open.pop() {
        let message = format!("this `{}` is never closed", &text[span.clone()]);
        return Err(Fault::new("rule-syntax", span, message).label("opens here"));
    }
    match tokens.is_empty() {
        true => Err(Fault::new("rule-syntax", 0..text.len(), "the expression is empty")),
        false => Ok(tokens),
    }
}

/// The `cel` crate's parser, its macros off: loops stay calls, with the author's own names.
fn parse(text: &str, tokens: &[Token]) -> Result<(IdedExpr, SourceInfo), Fault> {
    let parser =
        cel::Env::default().with_optional_support(false).parser().max_recursion_depth(64).error_recovery_limit(1);
    // The input is small and bounded; a panic would be a fault of the generated parser, and shall not be ours.
    let parse = std::panic::AssertUnwindSafe(|| parser.parse_with_source_info(text));
    let errors = match std::panic::catch_unwind(parse) {
        Ok(Ok(parsed)) => return Ok(parsed),
        Ok(Err(errors)) => errors.errors,
        Err(_) => Vec::new(),
    };
    let at = errors.iter().map(|error| offset(text, error.pos)).min().unwrap_or(0);
    let token = tokens.iter().find(|token| token.span.end > at);
    Err(match token {
        Some(token) => {
            let word = &text[token.span.clone()];
            let hint = dashed(text, &token.span);
            let fault = Fault::new("rule-syntax", token.span.clone(), format!("`{word}` is not expected here"));
            fault.label("here the expression can't go on").maybe_hint(hint)
        }
        None => {
            let end = tokens.last().map_or(0, |token| token.span.end);
            Fault::new("rule-syntax", end.saturating_sub(1)..end, "the expression ends too early")
                .label("something has to follow")
        }
    })
}

/// The parser's place: a line from 1 and a column from 1, in characters.
fn offset(text: &str, (line, column): (isize, isize)) -> usize {
    let (line, column) = (line.max(1) as usize - 1, column.max(1) as usize - 1);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = &text[start..];
    start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
}

/// If the word at `span` is a part of a name with `-`, such as the `gate` of `steps.kpi-gate.output`: how to write it.
fn dashed(text: &str, span: &Range<usize>) -> Option<String> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let start = text[..span.start].rfind(|c| !inside(c)).map_or(0, |at| at + 1);
    let end = span.start + text[span.start..].find(|c| !inside(c)).unwrap_or(text.len() - span.start);
    let name = &text[start..end];
    let before = text[..start].strip_suffix('.')?;
    let path = before.rfind(|c: char| !inside(c) && c != '.').map_or(before, |at| &before[at + 1..]);
    (name.contains('-') && !path.is_empty()).then(|| format!("`-` subtracts; write `{path}[\"{name}\"]`"))
}

/// Where the bracket that opens at this byte is closed.
fn closes(text: &str, tokens: &[Token]) -> BTreeMap<usize, usize> {
    let mut open = Vec::new();
    let mut closes = BTreeMap::new();
    for token in tokens {
        match token.kind {
            TokenKind::Open => open.push(token.span.start),
            TokenKind::Close => drop(open.pop().map(|start| closes.insert(start, token.span.end))),
            _ => (),
        }
    }
    debug_assert!(open.is_empty(), "{text}");
    closes
}

/// From the parser's tree to ours.
struct Lowering<'t> {
    text: &'t str,
    info: SourceInfo,
    tokens: Vec<Token>,
    closes: BTreeMap<usize, usize>,
    faults: Vec<Fault>,
    variables: Vec<String>,
}

impl Lowering<'_> {
    fn fault(&mut self, fault: Fault) -> Kind {
        self.faults.push(fault);
        Kind::Literal(Value::Null)
    }

    /// The token that the parser points at for this node.
    fn token(&self, node: &IdedExpr) -> Range<usize> {
        let at = self.info.offset_for(node.id).map_or(0, |(start, _)| start as usize);
        let at = match self.text.is_ascii() {
            true => at,
            false => self.text.char_indices().nth(at).map_or(self.text.len(), |(at, _)| at),
        };
        let found = self.tokens.iter().find(|token| token.span.end > at);
        found.map_or(self.text.len()..self.text.len(), |token| token.span.clone())
    }

    fn token_after(&self, at: usize) -> Range<usize> {
        let found = self.tokens.iter().find(|token| token.span.start >= at);
        found.map_or(self.text.len()..self.text.len(), |token| token.span.clone())
    }

    fn token_before(&self, at: usize) -> Range<usize> {
        let found = self.tokens.iter().rfind(|token| token.span.end <= at);
        found.map_or(0..0, |token| token.span.clone())
    }

    fn close(&self, open: &Range<usize>) -> usize {
        self.closes.get(&open.start).copied().unwrap_or(open.end)
    }

    fn boxed(&mut self, node: &IdedExpr) -> Box<Expr> {
        Box::new(self.expr(node))
    }

    fn expr(&mut self, node: &IdedExpr) -> Expr {
        let mut expr = self.unbalanced(node);
        expr.span = self.balanced(expr.span);
        expr
    }

    /// The span, if need be widened to the other ends of the brackets in it: the parser's tree has none around operands.
    fn balanced(&self, mut span: Range<usize>) -> Range<usize> {
        for (open, close) in &self.closes {
            if span.contains(open) {
                span.end = span.end.max(*close);
            } else if (span.start + 1..=span.end).contains(close) {
                span.start = span.start.min(*open);
            }
        }
        span
    }

    fn unbalanced(&mut self, node: &IdedExpr) -> Expr {
        let token = self.token(node);
        match &node.expr {
            Cel::Literal(literal) => self.literal(literal, token),
            Cel::Ident(name) => self.name(name, token),
            Cel::Select(select) => {
                let field = self.token_after(token.end);
                if let Cel::Ident(root) = &select.operand.expr
                    && let Some(kind) = named_part(root)
                    && !self.variables.contains(root)
                {
                    let start = self.token(&select.operand).start;
                    return Expr { span: start..field.end, kind: kind(select.field.as_str().into()) };
                }
                if let Some((root, outer)) = self.outer(&select.operand)
                    && select.field != "outer"
                {
                    let span = root.start..field.end;
                    let local = Local::named(&select.field).filter(|local| *local != Local::Items);
                    let kind = match local {
                        Some(local) => Kind::Local(local, outer),
                        None => {
                            let message = format!("there is no `outer.{}`", select.field);
                            let fault = Fault::new("rule-name", span.clone(), message).label("unknown name");
                            self.fault(fault.hint("write `outer.item`, `outer.index` or `outer.previous`"))
                        }
                    };
                    return Expr { span, kind };
                }
                let of = self.boxed(&select.operand);
                Expr { span: of.span.start..field.end, kind: Kind::Member(of, select.field.as_str().into()) }
            }
            Cel::List(list) => {
                let items = list.elements.iter().map(|item| self.expr(item)).collect();
                Expr { span: token.start..self.close(&token), kind: Kind::List(items) }
            }
            Cel::Map(map) => {
                let mut entries = Vec::new();
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        entries.push((self.expr(&entry.key), self.expr(&entry.value)));
                    }
                }
                Expr { span: token.start..self.close(&token), kind: Kind::Object(entries) }
            }
            Cel::Call(call) => self.call(&call.func_name, call.target.as_deref(), &call.args, token),
            Cel::Struct(_) | Cel::Comprehension(_) | Cel::Unspecified => {
                let fault = Fault::new("rule-syntax", token.clone(), "expressions have no such thing");
                Expr { kind: self.fault(fault.hint("write an object as `{\"key\": value}`")), span: token }
            }
        }
    }

    /// How often the node is `outer`, one behind the other, and where that begins.
    fn outer(&self, node: &IdedExpr) -> Option<(Range<usize>, u8)> {
        match &node.expr {
            Cel::Ident(name) if name == "outer" && !self.variables.contains(name) => Some((self.token(node), 1)),
            Cel::Select(select) if select.field == "outer" => {
                let (root, outer) = self.outer(&select.operand)?;
                Some((root, outer.checked_add(1)?))
            }
            _ => None,
        }
    }

    fn literal(&mut self, literal: &LiteralValue, span: Range<usize>) -> Expr {
        let value = match literal {
            LiteralValue::Boolean(value) => Some(Value::from(*value.inner())),
            LiteralValue::Int(number) => Some(Value::from(*number.inner())),
            LiteralValue::Double(number) => serde_json::Number::from_f64(*number.inner()).map(Value::Number),
            LiteralValue::String(text) => Some(Value::from(text.inner())),
            LiteralValue::Null => Some(Value::Null),
            LiteralValue::Bytes(_) | LiteralValue::UInt(_) => None,
        };
        let kind = match value {
            Some(value) => Kind::Literal(value),
            None => {
                let fault = Fault::new("rule-syntax", span.clone(), "this is no value that JSON has");
                self.fault(fault.hint("values are null, booleans, integers, doubles, strings, lists and objects"))
            }
        };
        Expr { span, kind }
    }

    fn name(&mut self, name: &str, span: Range<usize>) -> Expr {
        if let Some(depth) = self.variables.iter().rev().position(|variable| variable == name) {
            return Expr { span, kind: Kind::Variable(depth) };
        }
        let kind = match name {
            "inputs" => Kind::Inputs,
            "run" => Kind::Run,
            "workflow" => Kind::Workflow,
            "item" => Kind::Local(Local::Item, 0),
            "index" => Kind::Local(Local::Index, 0),
            "previous" => Kind::Local(Local::Previous, 0),
            "items" => Kind::Local(Local::Items, 0),
            "outer" => {
                let fault = Fault::new("rule-name", span.clone(), "`outer` has to be followed by what is meant of it");
                self.fault(fault.hint("write `outer.item`, `outer.index` or `outer.previous`"))
            }
            "secrets" => {
                let fault = Fault::new("rule-name", span.clone(), "`secrets` has to be followed by a secret's name");
                self.fault(fault.hint("write `secrets.NAME` or `secrets[\"NAME\"]`"))
            }
            "steps" => {
                let fault = Fault::new("rule-name", span.clone(), "`steps` has to be followed by a step's name");
                self.fault(fault.hint("write `steps.NAME` or `steps[\"NAME\"]`"))
            }
            _ => {
                let known = ROOTS.iter().copied().chain(self.variables.iter().map(String::as_str));
                let hint = dashed(self.text, &span)
                    .or_else(|| did_you_mean(name, known).map(|known| format!("did you mean `{known}`?")))
                    .unwrap_or_else(|| {
                        "an expression starts from `inputs`, `steps`, `run` or `workflow`; strings have quotes".into()
                    });
                let fault = Fault::new("rule-name", span.clone(), format!("there is nothing called `{name}`"));
                self.fault(fault.label("unknown name").hint(hint))
            }
        };
        Expr { span, kind }
    }

    fn call(&mut self, name: &str, target: Option<&IdedExpr>, args: &[IdedExpr], token: Range<usize>) -> Expr {
        let around = |a: &Expr, b: &Expr| a.span.start.min(b.span.start)..a.span.end.max(b.span.end);
        match (name, target, args) {
            (operators::LOGICAL_NOT, None, [of]) => {
                let of = self.boxed(of);
                Expr { span: token.start.min(of.span.start)..of.span.end, kind: Kind::Not(of) }
            }
            (operators::NEGATE, None, [of]) => {
                let of = self.boxed(of);
                Expr { span: token.start.min(of.span.start)..of.span.end, kind: Kind::Negate(of) }
            }
            (operators::LOGICAL_AND, None, [a, b]) => {
                let (a, b) = (self.boxed(a), self.boxed(b));
                Expr { span: around(&a, &b), kind: Kind::And(a, b) }
            }
            (operators::LOGICAL_OR, None, [a, b]) => {
                let (a, b) = (self.boxed(a), self.boxed(b));
                Expr { span: around(&a, &b), kind: Kind::Or(a, b) }
            }
            (operators::CONDITIONAL, None, [a, b, c]) => {
                let parts = [self.expr(a), self.expr(b), self.expr(c)];
                Expr { span: around(&parts[0], &parts[2]), kind: Kind::If(Box::new(parts)) }
            }
            (operators::INDEX, None, [of, index]) => self.index(of, index, token),
            (operators::OPT_INDEX | operators::OPT_SELECT, ..) => {
                let fault = Fault::new("rule-syntax", token.clone(), "optional access is not supported");
                Expr { kind: self.fault(fault.hint("ask with `has(…)` first")), span: token }
            }
            (_, None, [a, b]) if Operator::of(name).is_some() => {
                let operator = Operator::of(name).unwrap_or(Operator::Equal);
                let (a, b) = (self.boxed(a), self.boxed(b));
                Expr { span: around(&a, &b), kind: Kind::Binary(operator, a, b) }
            }
            // What is left was written as a call; the parser points at its bracket.
            ("has", None, [of]) => {
                let span = self.token_before(token.start).start..self.close(&token);
                let of = self.expr(of);
                let kind = match of.kind {
                    Kind::Member(..) | Kind::Step(_) => Kind::Has(Box::new(of)),
                    _ => {
                        let fault = Fault::new("rule-syntax", of.span, "`has` asks for a member");
                        self.fault(fault.hint("write it as `has(steps.NAME.output.member)`"))
                    }
                };
                Expr { span, kind }
            }
            (_, Some(over), _) if LOOPS.contains(&name) => self.looped(name, over, args, token),
            _ => self.function(name, target, args, token),
        }
    }

    fn index(&mut self, of: &IdedExpr, index: &IdedExpr, token: Range<usize>) -> Expr {
        let end = self.close(&token);
        if let Cel::Ident(root) = &of.expr
            && root == "steps"
            && !self.variables.contains(root)
        {
            let span = self.token(of).start..end;
            let kind = match &index.expr {
                Cel::Literal(LiteralValue::String(name)) => Kind::Step(name.inner().into()),
                _ => {
                    let fault = Fault::new("rule-name", span.clone(), "a step is named in the text, not computed");
                    self.fault(
                        fault.hint("what a run may look at is checked before it starts: write `steps[\"NAME\"]`"),
                    )
                }
            };
            return Expr { span, kind };
        }
        let of = self.boxed(of);
        let index = self.boxed(index);
        let span = of.span.start..end;
        match &index.kind {
            Kind::Literal(Value::String(name)) => Expr { span, kind: Kind::Member(of, name.as_str().into()) },
            _ => Expr { span, kind: Kind::Index(of, index) },
        }
    }

    fn looped(&mut self, name: &str, over: &IdedExpr, args: &[IdedExpr], token: Range<usize>) -> Expr {
        let over = self.expr(over);
        let span = over.span.start..self.close(&token);
        let (variable, keep, body) = match (name, args) {
            (_, [variable, body]) => (variable, None, body),
            ("map", [variable, keep, body]) => (variable, Some(keep), body),
            _ => {
                let message = format!("`{name}` takes a variable and an expression");
                let fault =
                    Fault::new("rule-call", span.clone(), message).hint(format!("write it as `list.{name}(x, x > 1)`"));
                return Expr { kind: self.fault(fault), span };
            }
        };
        let Cel::Ident(variable) = &variable.expr else {
            let place = self.token(variable);
            let fault = Fault::new("rule-call", place, format!("`{name}` takes a variable first"));
            return Expr { kind: self.fault(fault.hint(format!("write it as `list.{name}(x, x > 1)`"))), span };
        };
        if self.variables.len() == LOOP_NESTING_MAX {
            let message = format!("`all`, `exists`, `filter` and `map` nest at most {LOOP_NESTING_MAX} levels deep");
            let fault = Fault::new("rule-too-large", span.clone(), message).hint("compute it in a step");
            return Expr { kind: self.fault(fault), span };
        }
        let kind = match name {
            "all" => LoopKind::All,
            "exists" => LoopKind::Exists,
            "exists_one" => LoopKind::ExistsOne,
            "filter" => LoopKind::Filter,
            _ => LoopKind::Map,
        };
        self.variables.push(variable.clone());
        let keep = keep.map(|keep| self.expr(keep));
        let body = self.expr(body);
        self.variables.pop();
        Expr { span, kind: Kind::Loop(Box::new(Loop { kind, over, keep, body })) }
    }

    fn function(&mut self, name: &str, target: Option<&IdedExpr>, args: &[IdedExpr], token: Range<usize>) -> Expr {
        let word = self.token_before(token.start);
        let args: Vec<Expr> = target.into_iter().chain(args).map(|arg| self.expr(arg)).collect();
        let start = args.first().filter(|_| target.is_some()).map_or(word.start, |first| first.span.start);
        let span = start..self.close(&token);
        let function = FUNCTIONS.iter().find(|function| function.name == name);
        let kind = match (function, target.is_some()) {
            (None, _) => {
                let fault = Fault::new("rule-call", word, format!("there is no function `{name}`"));
                self.fault(fault.label("unknown function").hint(hint_at_function(name)))
            }
            (Some(function), true) if !function.method => {
                let fault = Fault::new("rule-call", word, format!("`{name}` is not called on a value"));
                self.fault(fault.hint(format!("write it as `{name}(…)`")))
            }
            (Some(function), false) if !function.global => {
                let fault = Fault::new("rule-call", word, format!("`{name}` is called on a value"));
                self.fault(fault.hint(format!("write it as `value.{name}(…)`")))
            }
            (Some(function), _) if function.takes.len() != args.len() => {
                let takes = function.takes.len() - usize::from(target.is_some());
                let found = args.len() - usize::from(target.is_some());
                let message =
                    format!("`{name}` takes {takes} argument{}, not {found}", if takes == 1 { "" } else { "s" });
                self.fault(Fault::new("rule-call", span.clone(), message))
            }
            (Some(function), _) => Kind::Call(function, args),
        };
        Expr { span, kind }
    }
}

/// What to call instead of a function that there is not.
fn hint_at_function(name: &str) -> String {
    let known = || FUNCTIONS.iter().map(|function| function.name).chain(LOOPS.iter().copied()).chain(["has"]);
    let elsewhere = ELSEWHERE.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
    match elsewhere.or_else(|| did_you_mean(name, known())) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("the functions are {}", known().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    }
}
