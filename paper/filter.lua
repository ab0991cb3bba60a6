-- What pandoc's reading of main.tex needs before Typst can set it.
--
-- wide, dense     \begin{wide} puts a float over both columns, \begin{dense} sets a table in small type;
--                 pandoc hands environments it does not know over as Divs of that class
-- appendices   everything after it is numbered by letters
-- references   the list of references stands where \bibliography stands
-- labels          pandoc wraps a labelled table as #block[#figure(...)] <label>, which Typst cannot refer to:
--                 the label has to follow the figure itself
-- minus           $-$ before a number is a minus sign of the text font that does not part from its number

local function typst(text)
  return pandoc.RawBlock("typst", text)
end

local OPENING = {
  wide = '#[#set figure(placement: top, scope: "parent")',
  dense = "#[#show table: set text(size: 7pt)\n#set table(inset: (x: 2.2pt, y: 2pt))",
}
-- environments without content, in place of commands that pandoc would drop
local STANDING = {
  appendices = '#counter(heading).update(0)\n#set heading(numbering: "A.1")',
  references = '#bibliography("refs.bib", title: "References", style: "american-psychological-association")',
}

function Math(element)
  if element.mathtype == "InlineMath" and element.text == "-" then
    return pandoc.Str("−")
  end
end

-- two pictures in one figure stand side by side
function Figure(element)
  local images = pandoc.List()
  element:walk({ Image = function(image) images:insert(image) end })
  if #images < 2 then
    return nil
  end
  local cells = images:map(function(image) return 'image("' .. image.src .. '")' end)
  local grid = "#grid(columns: " .. #images .. ", gutter: 0.3in, align: bottom, " .. table.concat(cells, ", ") .. ")"
  element.content = { typst(grid) }
  return element
end

function Div(element)
  local class = element.classes[1]
  if class == "appendices" or class == "references" then
    return { typst(STANDING[class]) }
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
