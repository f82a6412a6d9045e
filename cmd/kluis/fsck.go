package main

import "github.com/spf13/cobra"

func fsckCommand() *cobra.Command { return &cobra.Command{Use: "fsck", Hidden: true} }
