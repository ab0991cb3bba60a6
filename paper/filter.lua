-- What pandoc's reading of main.tex needs before Typst can set it.
--
-- wide, dense     \begin{wide} puts a float over both columns, \begin{dense} sets a table in small type;
--                 pandoc hands environments it does not know over as Divs of that class
-- labels          pandoc wraps a labelled table as #block[#figure(...)] <label>, which Typst cannot refer to:
--                 the label has to follow the figure itself
-- minus           $-$ before a number is a minus sign of the text font that does not part from its number

local function typst(text)
  return pandoc.RawBlock("typst", text)
end

local OPENING = {
  wide = '#[#set figure(placement: auto, scope: "parent")',
  dense = "#[#show table: set text(size: 6.6pt)\n#set table(inset: (x: 2.2pt, y: 2pt))",
  appendices = '#counter(heading).update(0)\n#set heading(numbering: "A.1")',
}

function Math(element)
  if element.mathtype == "InlineMath" and element.text == "-" then
    return pandoc.Str("−")
  end
end

function Div(element)
  local class = element.classes[1]
  if class == "appendices" then -- a Div without content: everything after it is the appendix
    return { typst(OPENING.appendices) }
  end
  if OPENING[class] then
    local blocks = pandoc.List({ typst(OPENING[class]) })
    blocks:extend(element.content)
    blocks:insert(typst("]"))
    return blocks
  end
  if #element.content == 1 and element.content[1].t == "Table" and element.identifier ~= "" then
    return { element.content[1], typst("<" .. element.identifier .. ">") }
  end
end
