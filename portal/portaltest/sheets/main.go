// Command sheets lays the pictures that the portal's browser tests have taken on contact
// sheets, so that a person can look at all of them:
//
//	go run ./portal/portaltest/sheets [-across N] [-width PIXELS] DIR OUT SUFFIX...
//
// Each suffix (light, dark, phone, phone-dark) gets sheets of its own, in the order of
// names, which it prints: sheet, and what lies on it from left to right.
package main

import (
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"log"
	"os"
	"path/filepath"
	"strings"
)

const gap = 12 // pixels between pictures

func main() {
	log.SetFlags(0)
	across := flag.Int("across", 3, "pictures on a sheet, side by side")
	width := flag.Int("width", 640, "of a picture on a sheet, in pixels; a narrower one keeps its own")
	tall := flag.Int("tall", 1400, "height of a sheet at most, in pixels; a longer picture is cut")
	flag.Parse()
	if flag.NArg() < 3 {
		log.Fatal("usage: sheets [-across N] [-width PIXELS] [-tall PIXELS] DIR OUT SUFFIX...")
	}
	if err := os.MkdirAll(flag.Arg(1), 0o755); err != nil {
		log.Fatal(err)
	}
	for _, suffix := range flag.Args()[2:] {
		files, err := filepath.Glob(filepath.Join(flag.Arg(0), "*-"+suffix+".png"))
		if err != nil {
			log.Fatal(err)
		}
		for n := 0; n*(*across) < len(files); n++ {
			some := files[n**across : min(len(files), (n+1)**across)]
			name := filepath.Join(flag.Arg(1), fmt.Sprintf("%s-%02d.png", suffix, n+1))
			if err := sheet(name, some, *width, *tall); err != nil {
				log.Fatal(err)
			}
			fmt.Print(name, ":")
			for _, f := range some {
				fmt.Print(" ", strings.TrimSuffix(filepath.Base(f), "-"+suffix+".png"))
			}
			fmt.Println()
		}
	}
}

func sheet(name string, files []string, width, tall int) error {
	var pictures []image.Image
	across, high := gap, 0
	for _, f := range files {
		in, err := os.Open(f)
		if err != nil {
			return err
		}
		p, err := png.Decode(in)
		in.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		p = shrink(p, width)
		pictures = append(pictures, p)
		across += p.Bounds().Dx() + gap
		high = max(high, p.Bounds().Dy())
	}
	out := image.NewRGBA(image.Rect(0, 0, across, min(high, tall)+2*gap))
	draw.Draw(out, out.Rect, image.NewUniform(color.Gray{Y: 0x80}), image.Point{}, draw.Src)
	at := gap
	for _, p := range pictures {
		draw.Draw(out, image.Rect(at, gap, at+p.Bounds().Dx(), out.Rect.Dy()-gap).Intersect(image.Rect(at, gap, out.Rect.Dx(), gap+p.Bounds().Dy())), p, p.Bounds().Min, draw.Src)
		at += p.Bounds().Dx() + gap
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := png.Encode(f, out); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// shrink makes a picture as narrow as asked, each point the mean of those that it stands for.
func shrink(p image.Image, width int) image.Image {
	from := p.Bounds()
	if from.Dx() <= width {
		return p
	}
	src := image.NewRGBA(image.Rect(0, 0, from.Dx(), from.Dy()))
	draw.Draw(src, src.Rect, p, from.Min, draw.Src)
	out := image.NewRGBA(image.Rect(0, 0, width, from.Dy()*width/from.Dx()))
	for y := range out.Rect.Dy() {
		for x := range width {
			x0, x1 := x*from.Dx()/width, (x+1)*from.Dx()/width
			y0, y1 := y*from.Dy()/out.Rect.Dy(), (y+1)*from.Dy()/out.Rect.Dy()
			var sum [3]int
			for v := y0; v < max(y1, y0+1); v++ {
				for u := x0; u < max(x1, x0+1); u++ {
					at := src.PixOffset(u, v)
					for c := range sum {
						sum[c] += int(src.Pix[at+c])
					}
				}
			}
			n := max(1, (x1-x0)*max(1, y1-y0))
			out.SetRGBA(x, y, color.RGBA{R: uint8(sum[0] / n), G: uint8(sum[1] / n), B: uint8(sum[2] / n), A: 255})
		}
	}
	return out
}
