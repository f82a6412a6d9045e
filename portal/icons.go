package portal

import (
	"fmt"
	"html/template"
)

// icons are drawn on a grid of 20 by 20, in lines 1.5 wide.
var icons = map[string]string{
	"home":     `<path d="M3 9.5 10 3.5l7 6M5 8.5v8h3.5v-4.5h3v4.5H15v-8"/>`,
	"grid":     `<path d="M3.5 3.5h5v5h-5zM11.5 3.5h5v5h-5zM3.5 11.5h5v5h-5zM11.5 11.5h5v5h-5z"/>`,
	"storage":  `<path d="M3.5 5.5c0-1.1 2.9-2 6.5-2s6.5.9 6.5 2-2.9 2-6.5 2-6.5-.9-6.5-2zM3.5 5.5v9c0 1.1 2.9 2 6.5 2s6.5-.9 6.5-2v-9M3.5 10c0 1.1 2.9 2 6.5 2s6.5-.9 6.5-2"/>`,
	"key":      `<circle cx="7" cy="13" r="3.5"/><path d="m9.5 10.5 7-7M13.5 6.5l2.5 2.5M11.5 8.5l1.5 1.5"/>`,
	"vault":    `<path d="M3.5 3.5h13v12h-13zM5.5 15.5V17M14.5 15.5V17"/><circle cx="10" cy="9.5" r="3"/><path d="M10 6.5v1.2M10 11.3v1.2M7 9.5h1.2M11.8 9.5H13"/>`,
	"shield":   `<path d="M10 2.8 16.2 5v4.6c0 3.7-2.5 6.2-6.2 7.6-3.7-1.4-6.2-3.9-6.2-7.6V5z"/>`,
	"log":      `<path d="M5 2.5h7l3.5 3.5v11.5H5zM12 2.5V6h3.5M7.5 9.5h5.5M7.5 12h5.5M7.5 14.5h3"/>`,
	"watch":    `<circle cx="10" cy="11.5" r="5.8"/><path d="M10 8.5v3l2 1.5M8 2.5h4M10 2.5v3M15 5.5l1 1"/>`,
	"settings": `<path d="M3.5 6h6M13.5 6h3M3.5 14h3M10.5 14h6"/><circle cx="11.5" cy="6" r="2"/><circle cx="8.5" cy="14" r="2"/>`,
	"good":     `<circle cx="10" cy="10" r="6.8"/><path d="m7 10.2 2.1 2.1 4-4.4"/>`,
	"warn":     `<path d="M10 3.2 17.5 16.5h-15zM10 8v4M10 14.2v.300"/>`,
	"bad":      `<circle cx="10" cy="10" r="6.8"/><path d="M7.8 7.8l4.4 4.4M12.2 7.8l-4.4 4.4"/>`,
	"info":     `<circle cx="10" cy="10" r="6.8"/><path d="M10 9.2v4.3M10 6.5v.300"/>`,
	"busy":     `<path d="M16.5 10A6.5 6.5 0 1 1 10 3.5"/>`,
	"lock":     `<path d="M4.5 9h11v8h-11zM7 9V6.5a3 3 0 0 1 6 0V9M10 12v2"/>`,
	"unlock":   `<path d="M4.5 9h11v8h-11zM7 9V6.5a3 3 0 0 1 5.7-1.3M10 12v2"/>`,
	"search":   `<circle cx="9" cy="9" r="5"/><path d="m12.7 12.7 4 4"/>`,
	"right":    `<path d="m8 5 5 5-5 5"/>`,
	"left":     `<path d="m12 5-5 5 5 5"/>`,
	"sun":      `<circle cx="10" cy="10" r="3.2"/><path d="M10 2.5v1.8M10 15.7v1.8M2.5 10h1.8M15.7 10h1.8M4.7 4.7 6 6M14 14l1.3 1.3M15.3 4.7 14 6M6 14l-1.3 1.3"/>`,
	"moon":     `<path d="M16.5 11.8A6.8 6.8 0 1 1 8.2 3.5a5.4 5.4 0 0 0 8.3 8.3z"/>`,
	"leave":    `<path d="M11.5 3.5h-7v13h7M8.5 10h8M13.5 7l3 3-3 3"/>`,
	"play":     `<path d="M6.5 4.5 15.5 10l-9 5.5z"/>`,
	"rotate":   `<path d="M15.5 7A6.3 6.3 0 0 0 4 8M4.5 13A6.3 6.3 0 0 0 16 12M15.8 3.5V7.2h-3.7M4.2 16.5v-3.7h3.7"/>`,
	"plus":     `<path d="M10 4v12M4 10h12"/>`,
	"menu":     `<path d="M3 5.5h14M3 10h14M3 14.5h14"/>`,
	"file":     `<path d="M5 2.5h7l3.5 3.5v11.5H5zM12 2.5V6h3.5"/>`,
	"people":   `<circle cx="7.5" cy="7" r="2.8"/><path d="M2.5 16.5c0-3 2-5 5-5s5 2 5 5M12.5 4.5a2.8 2.8 0 0 1 0 5M14 11.7c2.2.5 3.5 2.3 3.5 4.8"/>`,
	"download": `<path d="M10 3v9.5M6 9l4 4 4-4M3.5 16.5h13"/>`,
	"approve":  `<path d="M3.5 10.5 8 15l8.5-9.5"/>`,
	"plug":     `<path d="M7 2.5v4M13 2.5v4M4.5 6.5h11v2.5a5.5 5.5 0 0 1-11 0zM10 14.5v3"/>`,
	"chart":    `<path d="M3 3v14h14M6.5 13.5l3-4 2.5 2 4.5-6"/>`,
	"bell":     `<path d="M5 13.5V9a5 5 0 0 1 10 0v4.5l1.5 1.5h-13zM8.5 17a1.6 1.6 0 0 0 3 0"/>`,
}

// icon draws an icon, which says nothing that the text beside it does not.
func icon(name string) (template.HTML, error) {
	drawing, ok := icons[name]
	if !ok {
		return "", fmt.Errorf("there is no icon %q", name)
	}
	return template.HTML(`<svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">` + drawing + `</svg>`), nil
}
