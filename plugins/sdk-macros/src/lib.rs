//! The attribute `#[step]`: it reads a function's name and doc comment and writes the few lines that make the function
//! what a component exports.
//!
//! It works on plain tokens: what it needs to know is a name and some string literals, and every guest's build would
//! pay for a full parser of Rust. Whether the function's signature and types are right is left to the compiler, which
//! checks the generated calls against `downbeat_sdk`'s traits and says what is missing.

use proc_macro::{Delimiter, Group, Ident, Literal, Span, TokenStream, TokenTree};

/// What a step may want, as `wit/types.wit` lists it.
const CAPABILITIES: [&str; 8] = ["artifacts", "clock", "env", "files", "http", "process", "random", "workspace"];

/// Makes a function the step that this crate exports.
///
/// The function takes the input, or the context and the input, and gives the output or a failure:
///
/// ```ignore
/// /// Greets somebody.
/// #[step]
/// fn hello(input: Input) -> Result<Output, Failure> { … }
///
/// /// Builds the workspace.
/// #[step(wants(process = "runs cargo", clock = "measures how long it takes"))]
/// fn build(context: &Context, input: Input) -> Result<Output, Failure> { … }
/// ```
///
/// The first paragraph of the doc comment is the step's summary; name and version are the package's. Each of them can
/// be given instead: `#[step(name = "…", version = "…", summary = "…")]`.
///
/// `wants` names the capabilities that the step means to use and tells those who grant them why. What is not wanted
/// here is withheld even when a workflow grants it.
///
/// A type of the function's name is made beside it; tests hand it to `downbeat_sdk::testing`.
#[proc_macro_attribute]
pub fn step(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match expand(arguments, item.clone()) {
        Ok(generated) => item.into_iter().chain(generated).collect(),
        Err(fault) => item.into_iter().chain(fault.into_compile_error()).collect(),
    }
}

fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, Fault> {
    let arguments = Arguments::parse(arguments)?;
    let function = Function::parse(item)?;

    let literal = |given: Option<Literal>, default: &str| given.map_or_else(|| default.to_owned(), |l| l.to_string());
    let template = format!(
        r#"
        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code)]
        struct STEP {{}}

        impl ::downbeat_sdk::Step for STEP {{
            fn describe() -> ::downbeat_sdk::Description {{
                ::downbeat_sdk::__private::describe(
                    STEP,
                    ::downbeat_sdk::__private::About {{
                        name: {name},
                        version: {version},
                        summary: &[{summary}],
                        fallback_summary: ::core::env!("CARGO_PKG_DESCRIPTION"),
                        wants: &[{wants}],
                    }},
                )
            }}

            fn run(
                context: &::downbeat_sdk::Context,
                input: &::core::primitive::str,
            ) -> ::core::result::Result<::std::string::String, ::downbeat_sdk::Failure> {{
                ::downbeat_sdk::__private::run(STEP, context, input)
            }}
        }}

        #[doc(hidden)]
        #[allow(non_upper_case_globals)]
        const a_crate_exports_one_step: fn() -> ::downbeat_sdk::Description =
            <STEP as ::downbeat_sdk::Step>::describe;
        const _: fn() -> ::downbeat_sdk::Description = a_crate_exports_one_step;

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {{
            type Exported = ::downbeat_sdk::__private::Exported<STEP>;
            ::downbeat_sdk::__private::bindings::export!(
                Exported with_types_in ::downbeat_sdk::__private::bindings
            );
        }};
        "#,
        name = literal(arguments.name, r#"::core::env!("CARGO_PKG_NAME")"#),
        version = literal(arguments.version, r#"::core::env!("CARGO_PKG_VERSION")"#),
        summary = match arguments.summary {
            Some(summary) => summary.to_string(),
            None => function.docs.iter().map(|line| format!("{line},")).collect(),
        },
        wants = arguments
            .wants
            .iter()
            .map(|(capability, reason)| format!("(\"{capability}\", {reason}),"))
            .collect::<String>(),
    );
    let generated: TokenStream = template.parse().expect("the template is Rust and what goes into it are literals");
    Ok(with_name(generated, &function.name))
}

/// Puts the function's own identifier, span and all, where the template says `STEP`: what the compiler has to say about
/// the generated calls, it then says at the function's name.
fn with_name(tokens: TokenStream, name: &Ident) -> TokenStream {
    tokens
        .into_iter()
        .map(|token| match token {
            TokenTree::Ident(ident) if ident.to_string() == "STEP" => TokenTree::Ident(name.clone()),
            TokenTree::Group(group) => {
                let mut replaced = Group::new(group.delimiter(), with_name(group.stream(), name));
                replaced.set_span(group.span());
                TokenTree::Group(replaced)
            }
            other => other,
        })
        .collect()
}

/// What stands in the parentheses of `#[step(…)]`.
#[derive(Default)]
struct Arguments {
    name: Option<Literal>,
    version: Option<Literal>,
    summary: Option<Literal>,
    wants: Vec<(String, Literal)>,
}

impl Arguments {
    fn parse(tokens: TokenStream) -> Result<Arguments, Fault> {
        const KNOWN: &str = "`#[step]` takes `name = \"…\"`, `version = \"…\"`, `summary = \"…\"` and \
                             `wants(capability = \"reason\")`";
        let mut arguments = Arguments::default();
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            let TokenTree::Ident(key) = &token else { return Err(Fault::at(token.span(), KNOWN)) };
            match key.to_string().as_str() {
                "name" => arguments.name = Some(text_of(key, &mut tokens)?),
                "version" => arguments.version = Some(text_of(key, &mut tokens)?),
                "summary" => arguments.summary = Some(text_of(key, &mut tokens)?),
                "wants" => match tokens.next() {
                    Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => {
                        arguments.wants = wants(group.stream())?;
                    }
                    _ => return Err(Fault::at(key.span(), KNOWN)),
                },
                _ => return Err(Fault::at(key.span(), KNOWN)),
            }
            comma(&mut tokens)?;
        }
        Ok(arguments)
    }
}

fn wants(tokens: TokenStream) -> Result<Vec<(String, Literal)>, Fault> {
    let mut wants: Vec<(String, Literal)> = Vec::new();
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        let TokenTree::Ident(key) = &token else {
            return Err(Fault::at(
                token.span(),
                "expected a capability, as in `wants(process = \"runs the compiler\")`",
            ));
        };
        let capability = key.to_string();
        if !CAPABILITIES.contains(&capability.as_str()) {
            let known = CAPABILITIES.join("`, `");
            return Err(Fault::at(key.span(), format!("there is no capability `{capability}`; there are `{known}`")));
        }
        if wants.iter().any(|(earlier, _)| *earlier == capability) {
            return Err(Fault::at(key.span(), format!("`{capability}` is wanted twice")));
        }
        wants.push((capability, text_of(key, &mut tokens)?));
        comma(&mut tokens)?;
    }
    Ok(wants)
}

/// The string literal of `key = "…"`, the key having been read.
fn text_of(key: &Ident, tokens: &mut impl Iterator<Item = TokenTree>) -> Result<Literal, Fault> {
    let expected = || Fault::at(key.span(), format!("expected a text, as in `{key} = \"…\"`"));
    match (tokens.next(), tokens.next()) {
        (Some(TokenTree::Punct(equals)), Some(value)) if equals.as_char() == '=' => {
            string_literal(value).ok_or_else(expected)
        }
        _ => Err(expected()),
    }
}

fn comma(tokens: &mut impl Iterator<Item = TokenTree>) -> Result<(), Fault> {
    match tokens.next() {
        None => Ok(()),
        Some(TokenTree::Punct(punct)) if punct.as_char() == ',' => Ok(()),
        Some(other) => Err(Fault::at(other.span(), "expected `,`")),
    }
}

/// What `#[step]` stands on.
struct Function {
    name: Ident,
    /// The literals of its doc comment, line by line.
    docs: Vec<Literal>,
}

impl Function {
    fn parse(tokens: TokenStream) -> Result<Function, Fault> {
        let mut docs = Vec::new();
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match &token {
                TokenTree::Punct(hash) if hash.as_char() == '#' => {
                    if let Some(TokenTree::Group(attribute)) = tokens.peek() {
                        docs.extend(doc_line(attribute.stream()));
                    }
                }
                TokenTree::Ident(word) if word.to_string() == "async" => {
                    return Err(Fault::at(
                        word.span(),
                        "a step is not `async`: an attempt has its sandbox to itself and simply waits",
                    ));
                }
                TokenTree::Ident(word) if word.to_string() == "fn" => {
                    let Some(TokenTree::Ident(name)) = tokens.next() else { break };
                    return match tokens.next() {
                        Some(TokenTree::Punct(angle)) if angle.as_char() == '<' => {
                            Err(Fault::at(angle.span(), "a step's types must be known: the function can't be generic"))
                        }
                        _ => Ok(Function { name, docs }),
                    };
                }
                TokenTree::Ident(word) if ["struct", "enum", "impl", "mod", "trait"].contains(&&*word.to_string()) => {
                    break;
                }
                _ => {}
            }
        }
        Err(Fault::at(Span::call_site(), "`#[step]` belongs on a function"))
    }
}

/// The text of `doc = "…"`, which is what a line `/// …` has become.
fn doc_line(attribute: TokenStream) -> Option<Literal> {
    let mut tokens = attribute.into_iter();
    match (tokens.next()?, tokens.next()?) {
        (TokenTree::Ident(doc), TokenTree::Punct(_)) if doc.to_string() == "doc" => string_literal(tokens.next()?),
        _ => None,
    }
}

/// A token that is a string literal, also one that went through a `macro_rules!` and came out in an invisible group.
fn string_literal(token: TokenTree) -> Option<Literal> {
    match token {
        TokenTree::Literal(literal) if literal.to_string().starts_with(['"', 'r']) => Some(literal),
        TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
            string_literal(group.stream().into_iter().next()?)
        }
        _ => None,
    }
}

/// A mistake in how the attribute is used, and where.
struct Fault {
    span: Span,
    message: String,
}

impl Fault {
    fn at(span: Span, message: impl Into<String>) -> Fault {
        Fault { span, message: message.into() }
    }

    fn into_compile_error(self) -> TokenStream {
        let tokens: TokenStream =
            format!("::core::compile_error! {{ {:?} }}", self.message).parse().expect("a quoted text is a literal");
        tokens
            .into_iter()
            .map(|mut token| {
                token.set_span(self.span);
                token
            })
            .collect()
    }
}
